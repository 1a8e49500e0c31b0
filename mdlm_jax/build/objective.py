"""From config to objective."""

from ml_collections import ConfigDict

from mdlm_jax.build.described import factory_of, keys_of, made, objective_factory
from mdlm_jax.build.user_code import check_objective
from mdlm_jax.configs.base import KEYS
from mdlm_jax.configs.checks import refuse
from mdlm_jax.configs.objective_keys import NEVER_IN_BLOCKS, WITHOUT_LEVELS
from mdlm_jax.data.captioned import CAPTIONED
from mdlm_jax.errors import UserError
from mdlm_jax.objectives import OBJECTIVES, Objective
from mdlm_jax.objectives.ar_of_modalities import ar_of_modalities
from mdlm_jax.objectives.autoregressive import ar_without_start
from mdlm_jax.objectives.base import full
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.densities import KINDS, Learned, parse_density, with_density, with_learned
from mdlm_jax.objectives.dropped_prompt import dropped_prompt
from mdlm_jax.objectives.shifted import shifted
from mdlm_jax.plugins import is_plugin, plugin_label, source_digest
from mdlm_jax.processes import PROCESSES


def objective_of(config: ConfigDict, mask_id: int) -> Objective:
    """The objective of a config, inside blocks if the config says so.

    Args:
        config: The whole config. `objective.name` is a key of OBJECTIVES, FILE.py:FUNCTION or module:function.
        mask_id: V, the number of tokens; the mask is the token after them.

    Raises:
        UserError: A key has a bad value, or a user's own function fails or returns something else.
    """
    options = config.objective
    factory = objective_factory(options.name)
    if options.name == "ar":
        factory = ar_without_start if config.data.extra_token else factory
        factory = ar_of_modalities if config.data.source in CAPTIONED else factory
    if options.order != "text_first" and factory is not ar_of_modalities:
        accepted = f"text_first; other orders only with objective.name=ar on {', '.join(CAPTIONED)}"
        refuse("objective.order", options.order, accepted)
    objective = made(options.name, factory, config, mask_id)
    if is_plugin(options.name):
        check_objective(options.name, objective, config.data.sequence_length, mask_id)
    if options.density:
        if options.independent_times:
            refuse("objective.density", options.density, "empty with independent_times, whose times are uniform")
        density = parse_density(options.density)
        if isinstance(density, Learned):
            _refuse_learned(config)
            objective = with_learned(objective)
        else:
            objective = with_density(objective, density, options.density_weighted)
    if options.drop_prompt:
        if not config.data.prompt_tokens and config.data.source != "chat":
            accepted = "0 where data.prompt_tokens is 0 and data.source is not chat: no prompt to drop"
            refuse("objective.drop_prompt", options.drop_prompt, accepted)
        if options.block_size:
            refuse("objective.drop_prompt", options.drop_prompt, "0 with blocks, whose prompt is in the clean half too")
        objective = dropped_prompt(objective, mask_id, options.drop_prompt)
    _refuse_in_blocks(config)
    if options.shift:
        if not config.data.prompt_tokens and config.data.source != "chat":
            accepted = "False without a prompt, in data.prompt_tokens or a chat: nothing predicts the first token"
            refuse("objective.shift", options.shift, accepted)
        objective = shifted(objective)
    if options.anneal_steps and objective.mask is not full:
        refuse("objective.anneal_steps", options.anneal_steps, "0 for an objective that does not see the whole row")
    if options.block_size:
        objective = block(
            objective,
            options.block_size,
            config.data.sequence_length,
            options.block_low,
            options.block_high,
            options.block_shared_level,
            mask_id if options.block_shift else None,
        )
    return objective


def learned_density(config: ConfigDict) -> Learned | None:
    """The density of noise levels that the train step learns, if the config has one."""
    density = parse_density(config.objective.density) if config.objective.density else None
    return density if isinstance(density, Learned) else None


def _refuse_learned(config: ConfigDict) -> None:
    options = config.objective
    if not options.density_weighted:
        refuse("objective.density_weighted", False, "True with a learned density, which follows the weighted loss")
    if options.block_size:
        refuse("objective.density", options.density, "bell or clipped with blocks, which have a noise level each")


def _refuse_in_blocks(config: ConfigDict) -> None:
    """Refuses what reads whole rows only."""
    if not config.objective.block_size:
        return
    for leaf, instead in (
        ("shift", "False with blocks, which have objective.block_shift"),
        ("anneal_steps", "0 with blocks, which never attend to all later positions"),
        ("context_rate", "0 with blocks, where a token sees visible ones outside its own block too"),
    ):
        if config.objective[leaf]:
            refuse(f"objective.{leaf}", config.objective[leaf], instead)


def read_keys(name: str, options: ConfigDict | None = None) -> set[str]:
    """The keys `objective.*` that an objective reads; it ignores all others.

    Args:
        name: The value of `objective.name`.
        options: The `objective` part of a config. With it, only keys that this config uses: the power of a polynomial
            schedule, the numbers of the chosen process, the details of blocks that there are.

    Raises:
        UserError: There is no such objective or process.

    >>> sorted(read_keys("ar"))
    ['objective.name', 'objective.order']
    """
    keys = {"name"} | keys_of(objective_factory(name))
    if "process" in keys:
        for process in PROCESSES if options is None else [options["process"]]:
            keys |= keys_of(factory_of("objective.process", process, PROCESSES))
    if name == "ar":
        keys |= {"order"}
    if name not in NEVER_IN_BLOCKS:
        keys |= {"drop_prompt", "block_size", "block_low", "block_high", "block_shared_level", "block_shift"}
        keys |= {"shift", "anneal_steps"}
    if name not in WITHOUT_LEVELS:
        keys |= {"density", "density_weighted"}
    if options is not None:
        if not options["density"]:
            keys -= {"density_weighted"}
        if "schedule" in keys and options["schedule"] != "polynomial":
            keys -= {"power"}
        if "epsilon" in keys and options["epsilon_convention"] == "none":
            keys -= {"epsilon"}
        if not options["block_size"]:
            keys -= {"block_low", "block_high", "block_shared_level", "block_shift"}
    return {f"objective.{key}" for key in keys}


def refuse_unread_by(name: str, config: ConfigDict) -> None:
    """Refuses keys `objective.*` that differ from their defaults though a user's own objective does not read them.

    Raises:
        UserError: Such a key is set, or no objective has this name.
    """
    read = read_keys(name, config.objective)
    for leaf, value in config.objective.items():
        key = f"objective.{leaf}"
        if key not in read and value != KEYS[key].default:
            raise UserError(f"config.{key} is {value!r}; {name} does not read it, only {', '.join(sorted(read))}")


def objective_label(config: ConfigDict) -> str:
    """The objective's name, with the options that distinguish it from others of that name.

    For example `d3pm-uniform`, `masked-T1000-block4`, or `mine.make` for the function `make` of mine.py.
    """
    options, name = config.objective, config.objective.name
    label = plugin_label(name) if is_plugin(name) else name
    keys = keys_of(OBJECTIVES[name]) if name in OBJECTIVES else ()
    details = {key: options[key] for key in ("process", "score", "form") if key in keys}
    label += "".join(f"-{plugin_label(value) if is_plugin(value) else value}" for value in details.values())
    if "num_steps" in keys and options.num_steps:
        label += f"-T{options.num_steps}"
    if "complementary" in keys and options.complementary:
        label += "-complementary"
    if options.density:
        kind = options.density.partition(":")[0]
        label += f"-{kind if kind in KINDS else 'density'}" + "-unweighted" * (not options.density_weighted)
    if "context_rate" in keys and options.context_rate:
        label += "-context"
    if "shuffled_share" in keys and options.shuffled_share < 1:
        label += f"-shuffled{options.shuffled_share:g}"
    if name == "ar" and options.order != "text_first":
        label += f"-{options.order}"
    if not options.block_size:
        return label + "-shift" * options.shift + "-annealed" * (options.anneal_steps > 0)
    label += f"-block{options.block_size}"
    return label + "-shared" * options.block_shared_level + "-shift" * options.block_shift


def objective_source_digest(config: ConfigDict) -> str:
    """SHA-256 of the source of a user's own objective, process and schedule; "" where all are of the package.

    Raises:
        UserError: The file or module is missing.
    """
    names = filter(is_plugin, (config.objective[key] for key in ("name", "process", "schedule")))
    return "-".join(source_digest(name) for name in names)
