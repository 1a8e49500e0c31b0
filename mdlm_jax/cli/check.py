"""The verb `check`."""

from mdlm_jax.cli.devices import prepare_devices


def add_check(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("check", help="check an objective by exact enumeration of a toy distribution")
    verb.add_argument("objective", help="a name, FILE.py:FUNCTION or module:function")
    verb.add_argument("--config", default="base", help="--config.objective.KEY=VALUE overrides a key")
    verb.add_argument("--vocab", type=int, default=3, help="tokens of the toy distribution")
    verb.add_argument("--length", type=int, default=2, help="positions of the toy distribution")
    verb.add_argument("--draws", type=int, default=100_000, help="noise draws for each sequence")
    verb.add_argument("--seed", type=int, default=0, help="seed of the toy distribution and of the noise")
    verb.set_defaults(run_verb=_check, takes_keys=True)


def _check(options) -> int:
    from mdlm_jax.config import load_config

    # before the slow imports, so that a wrong name or key is answered at once
    load_config(options.config, [f"--config.objective.name={options.objective}", *options.overrides])
    prepare_devices()
    from mdlm_jax.exact.check_objective import check_objective
    from mdlm_jax.runs.say import doing

    with doing(f"checking {options.objective}"):
        rows = check_objective(
            options.objective,
            options.config,
            options.overrides,
            vocab=options.vocab,
            length=options.length,
            draws=options.draws,
            seed=options.seed,
        )
    return 0 if all(row.holds for row in rows) else 1
