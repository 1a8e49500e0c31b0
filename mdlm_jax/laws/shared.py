"""One law for several objectives that bound the same likelihood: they share E, and have their own A, B, alpha, beta."""

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.laws.parametric import CHINCHILLA, Chinchilla, Runs, chinchilla_starts, log_sum
from mdlm_jax.laws.surface import Law, optimum

OWN = Chinchilla._fields[1:]


class GroupedRuns(NamedTuple):
    parameters: Float[np.ndarray, "runs"]
    tokens: Float[np.ndarray, "runs"]
    group: Int[np.ndarray, "runs"]  # index of the objective


def _log_loss(coordinates: Float[Array, "parameters"], runs: GroupedRuns) -> Float[Array, "runs"]:
    log_a, log_b, alpha, beta = coordinates[1:].reshape(-1, len(OWN))[runs.group].T
    return log_sum(coordinates[0], log_a - alpha * jnp.log(runs.parameters), log_b - beta * jnp.log(runs.tokens))


def _starts(runs: GroupedRuns, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts parameters"]:
    """Each objective is fitted alone; each of their E is a start, to which the other objectives are fitted again."""
    alone = [(Runs(runs.parameters[mine], runs.tokens[mine]), loss[mine]) for mine in _groups(runs)]
    everything, own = np.ones(5, bool), np.arange(5) > 0
    separate = [optimum(CHINCHILLA, "squares", *one, chinchilla_starts(*one), everything)[0] for one in alone]
    starts = []
    for log_e in [coordinates[0] for coordinates in separate]:
        held = [np.concatenate([[log_e], coordinates[1:]])[None] for coordinates in separate]
        fitted = [optimum(CHINCHILLA, "squares", *one, start, own)[0] for one, start in zip(alone, held, strict=True)]
        starts.append(np.concatenate([[log_e], *(coordinates[1:] for coordinates in fitted)]))
    return np.array(starts)


def _groups(runs: GroupedRuns) -> list[Bool[np.ndarray, "runs"]]:
    return [runs.group == group for group in np.unique(runs.group)]


@cache
def shared_law(objectives: tuple[str, ...]) -> Law:
    """The joint law of these objectives. Its parameters are E, then A_ar, B_ar, alpha_ar, beta_ar and so on."""
    names = ["E"] + [f"{name}_{objective}" for objective in objectives for name in OWN]
    values = NamedTuple("SharedChinchilla", [(name, float) for name in names])
    logarithmic = CHINCHILLA.logarithmic[:1] + CHINCHILLA.logarithmic[1:] * len(objectives)
    return Law(values, logarithmic, _log_loss, _starts)
