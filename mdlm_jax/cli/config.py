"""The verb `config`: the keys of a config, with their defaults and what they accept."""


def add_config(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("config", help="list the keys of a config: defaults, accepted values and who reads them")
    verb.add_argument("key", nargs="?", default="", help="a key, or a section such as optim (default: all keys)")
    verb.set_defaults(run_verb=_config)


def _config(options) -> int:
    from mdlm_jax.configs.base import KEYS
    from mdlm_jax.configs.checks import unknown_key

    name = options.key.removeprefix("--").removeprefix("config.")
    if name in KEYS:
        print(_described(name))
        return 0
    names = [key for key in KEYS if not name or key.startswith(f"{name}.")]
    if not names:
        unknown_key(name)
    width = max(map(len, names))
    for key in names:
        print(f"{key:{width}}  {KEYS[key].default!r:12}  {KEYS[key].help}")
    return 0


def _described(name: str) -> str:
    from mdlm_jax.configs.base import KEYS

    key = KEYS[name]
    lines = [f"config.{name}: {key.help}", f"  default: {key.default!r}", f"  accepted: {key.accepted}"]
    lines.append(f"  read: {f'only when {key.read_where}' if key.when else 'always'}")
    for choice, when in key.choice_when.items():
        lines.append(f"  {choice}: only when {key._replace(when=when).read_where}")
    lines.append("  execution: may change when a run resumes" if key.execution else "  science: fixed for a run")
    return "\n".join(lines)
