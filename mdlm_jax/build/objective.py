"""From config to objective: a factory is given what it names among the things that `objective.*` describes."""

import inspect
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from mdlm_jax.config import choose, refuse
from mdlm_jax.objectives import OBJECTIVES, Objective
from mdlm_jax.objectives.autoregressive import ar_without_start
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.dropped_prompt import dropped_prompt
from mdlm_jax.processes import PROCESSES, Process
from mdlm_jax.schedules import SCHEDULES, Schedule, with_ends

EPSILON_CONVENTIONS = ("none", "smdm", "mdlm", "md4")
LARGEST_POWER = 6.0  # of the earliest time, 1e-6, that float32 can tell from 0
DISCRETE_STEPS = 1000  # of d3pm, where `objective.num_steps` is 0


def objective_of(config: ConfigDict, mask_id: int) -> Objective:
    """The objective that a config names, in blocks if it says so. Raises UserError naming the key at fault."""
    options, factory = config.objective, choose(config, "objective.name", OBJECTIVES)
    if options.name == "ar" and config.data.extra_token:
        factory = ar_without_start
    objective = _called(factory, config, mask_id)
    if options.drop_prompt:
        if not config.data.prompt_tokens:
            refuse("objective.drop_prompt", options.drop_prompt, "0 where data.prompt_tokens is 0: no prompt to drop")
        if options.block_size:
            refuse("objective.drop_prompt", options.drop_prompt, "0 with blocks, whose prompt is in the clean half too")
        objective = dropped_prompt(objective, mask_id, options.drop_prompt)
    if options.block_size:
        if config.data.sequence_length % options.block_size:
            length = config.data.sequence_length
            refuse("objective.block_size", options.block_size, f"a divisor of data.sequence_length = {length}, or 0")
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


def objective_label(config: ConfigDict) -> str:
    """The objective with what tells it from others of its name, as in `d3pm-uniform` or `masked-T1000-block4`."""
    options, label = config.objective, config.objective.name
    asked = inspect.signature(OBJECTIVES[label]).parameters if label in OBJECTIVES else ()
    label += "".join(f"-{options[key]}" for key in ("process", "score", "form") if key in asked)
    if "num_steps" in asked and options.num_steps:
        label += f"-T{options.num_steps}"
    if "complementary" in asked and options.complementary:
        label += "-complementary"
    if not options.block_size:
        return label
    label += f"-block{options.block_size}"
    return label + "-shared" * options.block_shared_level + "-shift" * options.block_shift


def schedule_of(config: ConfigDict) -> Schedule:
    """How much is noised at each time. MDLM's convention scales it by 1 - epsilon, MD4's cuts epsilon at both ends."""
    options, schedule = config.objective, choose(config, "objective.schedule", SCHEDULES)
    convention = choose(config, "objective.epsilon_convention", EPSILON_CONVENTIONS)
    if convention != "none" and not 0 < options.epsilon < 0.5:
        refuse("objective.epsilon", options.epsilon, "above 0 and below 0.5")
    if convention == "mdlm":
        if options.schedule != "linear":
            refuse("objective.schedule", options.schedule, "linear, where epsilon_convention is mdlm")
        return schedule(options.epsilon)
    if options.schedule == "polynomial":
        if not 0 < options.power <= LARGEST_POWER:
            refuse("objective.power", options.power, f"above 0 and at most {LARGEST_POWER:g}")
        made = schedule(options.power)
    else:
        made = schedule()
    return with_ends(made, options.epsilon) if convention == "md4" else made


def _called(factory: Callable, config: ConfigDict, mask_id: int) -> Any:
    """The factory with those of its parameters that a config describes; the others keep their defaults."""
    options = config.objective
    described = {
        "mask_id": lambda: mask_id,
        "vocab": lambda: mask_id,
        "schedule": lambda: schedule_of(config),
        "time_epsilon": lambda: options.epsilon if options.epsilon_convention in ("smdm", "mdlm") else 0.0,
        "independent_times": lambda: options.independent_times,
        "complementary": lambda: options.complementary,
        "rate": lambda: _mask_rate(config),
        "process": lambda: _process(config, mask_id),
        "num_steps": lambda: _num_steps(config),
        "auxiliary": lambda: _at_least_0(config, "auxiliary"),
        "score": lambda: options.score,
        "form": lambda: options.form,
        "embedding_width": lambda: options.embedding_width,
        "mask_share": lambda: options.mask_share,
        "uniform_share": lambda: options.uniform_share,
        "gamma": lambda: options.gamma,
    }
    names = inspect.signature(factory).parameters.keys() & described.keys()
    return factory(**{name: described[name]() for name in names})


def _process(config: ConfigDict, mask_id: int) -> Process:
    if config.objective.process == "gaussian_matrix" and config.objective.name != "d3pm":
        refuse("objective.process", "gaussian_matrix", "absorbing, uniform, hybrid or gidd; a chain of steps is d3pm's")
    return _called(choose(config, "objective.process", PROCESSES), config, mask_id)


def _num_steps(config: ConfigDict) -> int:
    steps = _at_least_0(config, "num_steps")
    return steps or (DISCRETE_STEPS if config.objective.name == "d3pm" else 0)


def _mask_rate(config: ConfigDict) -> float:
    if not 0 < config.objective.mask_rate <= 1:
        refuse("objective.mask_rate", config.objective.mask_rate, "above 0 and at most 1")
    return config.objective.mask_rate


def _at_least_0(config: ConfigDict, key: str):
    if config.objective[key] < 0:
        refuse(f"objective.{key}", config.objective[key], "0 or more")
    return config.objective[key]
