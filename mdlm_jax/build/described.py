"""Maps the keys of a config to the parameters of objective and process factories, by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.build.user_code import in_user_code
from mdlm_jax.configs.checks import refuse
from mdlm_jax.data.captioned import layout_of
from mdlm_jax.errors import UserError
from mdlm_jax.objectives import OBJECTIVES, Objective
from mdlm_jax.objectives.modality_tasks import parse_tasks
from mdlm_jax.plugins import FORM, is_plugin, load_function
from mdlm_jax.processes import PROCESSES, Process
from mdlm_jax.schedules import SCHEDULES, Schedule, geometric_sigma, total_noise, with_ends

DISCRETE_STEPS = 1000  # T of d3pm if `objective.num_steps` is 0
# the schedules of MDLM's code, and whether they take its epsilon
MDLM_SCHEDULES = {
    **dict.fromkeys(("linear", "log_linear", "mdlm_cosine", "cosine_squared"), True),
    **dict.fromkeys(("linear_sigma", "geometric"), False),
}


class Described(NamedTuple):
    """How a config gives the value of a factory's parameter."""

    keys: tuple[str, ...]  # the keys of `config.objective` that the value depends on
    value: Callable[[ConfigDict, int], Any]  # (config, mask id)


def objective_factory(name: str) -> Callable[..., Objective]:
    """The factory of an objective: one of the package, or a user's own (see `plugins`).

    Raises:
        UserError: There is no such objective.
    """
    return factory_of("objective.name", name, OBJECTIVES)


def factory_of(key: str, name: str, options: Mapping[str, Callable]) -> Callable:
    """The factory of this name.

    Args:
        key: The key of the config, for the message.
        name: A key of `options`, or a user's own function.
        options: The factories of the package.

    Raises:
        UserError: There is no such factory.
    """
    if is_plugin(name):
        return load_function(name)
    if name not in options:
        refuse(key, name, f"{', '.join(options)}, {FORM}")
    return options[name]


def keys_of(factory: Callable) -> set[str]:
    """The keys of `config.objective` that a factory's parameters depend on."""
    described = inspect.signature(factory).parameters.keys() & DESCRIBED.keys()
    return {key for parameter in described for key in DESCRIBED[parameter].keys}


def made(name: str, factory: Callable, config: ConfigDict, mask_id: int) -> Any:
    """Calls a factory with the parameters that a config describes; the others keep their defaults.

    Args:
        name: The factory's name, for the message.
        factory: The factory.
        config: The config.
        mask_id: Id of the mask, V.

    Raises:
        UserError: A parameter without a default is not described, or a user's own factory fails.
    """
    parameters = inspect.signature(factory).parameters
    for parameter in parameters.values():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and parameter.name not in DESCRIBED:
            raise UserError(
                f"{name}: no key of a config describes its parameter {parameter.name!r}; "
                f"accepted: {', '.join(DESCRIBED)}, or a default"
            )
    values = {key: DESCRIBED[key].value(config, mask_id) for key in DESCRIBED if key in parameters}
    if not is_plugin(name):
        return factory(**values)
    return in_user_code(name, "", lambda: factory(**values))


def schedule_of(config: ConfigDict) -> Schedule:
    """The noise schedule. MDLM's convention scales it by 1 - epsilon, MD4's cuts epsilon off both ends."""
    options, factory = config.objective, factory_of("objective.schedule", config.objective.schedule, SCHEDULES)
    convention = options.epsilon_convention
    if convention == "mdlm" and not is_plugin(options.schedule):
        if options.schedule not in MDLM_SCHEDULES:
            refuse("objective.schedule", options.schedule, f"{', '.join(MDLM_SCHEDULES)}: epsilon_convention is mdlm")
        return factory(options.epsilon) if MDLM_SCHEDULES[options.schedule] else factory()
    if options.schedule == "polynomial":
        schedule = factory(options.power)
    elif is_plugin(options.schedule):
        schedule = in_user_code(options.schedule, "", factory)
    else:
        schedule = factory()
    return with_ends(schedule, options.epsilon) if convention == "md4" else schedule


def noise_level_of(config: ConfigDict) -> Schedule | None:
    """The noise level that time conditioning embeds: sigma = -log alpha, or None for the time itself.

    Raises:
        UserError: The objective has no schedule.
    """
    if config.model.time_embedding == "t":
        return None
    if "schedule" not in keys_of(objective_factory(config.objective.name)) | _process_keys(config):
        refuse("model.time_embedding", "sigma", f"t: {config.objective.name} has no schedule with one sigma")
    return geometric_sigma() if config.objective.schedule == "geometric" else total_noise(schedule_of(config))


def _process_keys(config: ConfigDict) -> set[str]:
    if "process" not in keys_of(objective_factory(config.objective.name)):
        return set()
    return keys_of(factory_of("objective.process", config.objective.process, PROCESSES))


def _process(config: ConfigDict, mask_id: int) -> Process:
    name = config.objective.process
    if name == "gaussian_matrix" and config.objective.name != "d3pm":
        refuse("objective.process", name, "absorbing, uniform, hybrid or gidd; a chain of steps is d3pm's")
    process = made(name, factory_of("objective.process", name, PROCESSES), config, mask_id)
    if not isinstance(process, Process):
        raise UserError(f"{name} returned {type(process).__name__}; accepted: a mdlm_jax.processes.Process")
    return process


def _num_steps(config: ConfigDict) -> int:
    return config.objective.num_steps or (DISCRETE_STEPS if config.objective.name == "d3pm" else 0)


def _time_epsilon(config: ConfigDict) -> float:
    return config.objective.epsilon if config.objective.epsilon_convention in ("smdm", "mdlm") else 0.0


def _as_given(*keys: str) -> dict[str, Described]:
    return {key: Described((key,), lambda config, _, key=key: config.objective[key]) for key in keys}


# the parameters that a factory of an objective or a process may have
DESCRIBED: dict[str, Described] = {
    "mask_id": Described((), lambda config, mask_id: mask_id),
    "vocab": Described((), lambda config, mask_id: mask_id),
    "schedule": Described(
        ("schedule", "power", "epsilon_convention", "epsilon"), lambda config, _: schedule_of(config)
    ),
    "time_epsilon": Described(("epsilon_convention", "epsilon"), lambda config, _: _time_epsilon(config)),
    "rate": Described(("mask_rate",), lambda config, _: config.objective.mask_rate),
    "process": Described(("process",), _process),
    "tasks": Described(("tasks",), lambda config, _: parse_tasks(config.objective.tasks)),
    **{
        key: Described((), lambda config, _, key=key: getattr(layout_of(config.data.source, config.data.path), key))
        for key in ("text_vocab", "text_length")
    },
    "order": Described(("order",), lambda config, _: config.objective.order),
    **{
        key: Described((key,), lambda config, _, key=key: SCHEDULES[config.objective[key]]())
        for key in ("text_schedule", "image_schedule")
    },
    "num_steps": Described(("num_steps",), lambda config, _: _num_steps(config)),
} | _as_given(
    "auxiliary",
    "independent_times",
    "independent_modalities",
    "weighting",
    "complementary",
    "context_rate",
    "shuffled_share",
    "score",
    "form",
    "embedding_width",
    "mask_share",
    "uniform_share",
    "gamma",
)
