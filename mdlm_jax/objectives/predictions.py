"""What a network trained by an objective predicts, from what the objective declares: its mask, inputs and process."""

from typing import Any

from mdlm_jax.objectives.base import Objective, causal, cross_entropy
from mdlm_jax.processes.base import Process, mask_only
from mdlm_jax.schedules import Schedule, linear


def process_of(objective: Objective, objective_params: Any) -> Process | None:
    """The noise process that the network was trained to reverse; None where a position holds no noised token."""
    if objective.parameterization is None:
        return None
    return objective.parameterization(objective_params).process


def predicts_next(objective: Objective) -> bool:
    """Whether a position predicts the token after the one it reads, left to right."""
    return objective.mask is causal and objective.coordinates == 1


def predicts_in_any_order(objective: Objective) -> bool:
    """Whether a position reads a token at one position and predicts that of another (two coordinates)."""
    return objective.mask is causal and objective.coordinates == 2


def predicts_masked(objective: Objective, objective_params: Any) -> bool:
    """Whether softmax(logits) at a mask is the distribution of its token given the visible ones, at any time.

    It is where tokens only ever become masks, and the best network need not know the time: every published
    parameterization is that distribution then, up to a constant in the logits.
    """
    process = process_of(objective, objective_params)
    return process is not None and not objective.timed and mask_only(process)


def predicts_rates(objective: Objective, objective_params: Any) -> bool:
    """Whether the network was trained at all times of a process in continuous time, so that reverse rates are known."""
    process = process_of(objective, objective_params)
    return process is not None and process.rate is not None and not chain_steps(objective)


def chain_steps(objective: Objective) -> int:
    """The number of steps of a process in discrete time, which its sampler needs too; 0: continuous time.

    A network trained by the cross-entropy of masked tokens has no such number: at a mask it predicts the same at all
    times.
    """
    return 0 if objective.token_loss is cross_entropy else objective.num_steps


def mask_schedule(process: Process | None) -> Schedule:
    """t -> P(a token is masked) of a process that masks; linear where there is none."""
    if process is None or process.mixture is None:
        return linear()
    return lambda t: process.mixture.amounts(t).masked
