"""Several samplers of one checkpoint side by side: what each costs, and the quality of its text."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from mdlm_jax.evaluation.quality import Quality
from mdlm_jax.sampling.base import Trace


class Contender(NamedTuple):
    """One sampler of a comparison."""

    label: str
    draw: Callable[[Array], tuple[Array, Trace]]  # key -> tokens i32[B, L] and their trace
    temperature: float
    top_p: float | None
    dtype: str  # of the network's computation


class Measured(NamedTuple):
    """Costs and quality of one contender. A token counts where it was drawn (`Trace.step` >= 0)."""

    label: str
    temperature: float
    top_p: float | None
    dtype: str
    batch: int  # rows drawn at once
    evaluations: float  # of the network, mean over rows; the rows of a batch wait for the last of them
    seconds: float  # per row: of a call by its rows
    tokens_per_second: float
    first_call_seconds: float  # with compilation, of all rows
    quality: Quality


def compare(
    contenders: Sequence[Contender],
    key: Array,
    measure: Callable[[np.ndarray, np.ndarray], Quality],
    repeats: int = 1,
) -> list[Measured]:
    """Draws once to compile, then `repeats` times, timed and measured together; every contender has the same keys.

    All are compiled before any is timed, so that a sampler that fails does so first.

    Args:
        contenders: The samplers.
        key: Key of all randomness.
        measure: (tokens, which of them were drawn) -> their quality.
        repeats: Timed calls of each.
    """
    first_calls = [_timed(contender.draw, key)[1] for contender in contenders]
    rows = []
    for (label, draw, *sampled_with), first_call in zip(contenders, first_calls, strict=True):
        calls = [_timed(draw, jax.random.fold_in(key, repeat)) for repeat in range(repeats)]
        tokens = np.concatenate([np.asarray(tokens) for (tokens, _), _ in calls])
        drawn = np.concatenate([np.asarray(trace.step) >= 0 for (_, trace), _ in calls])
        evaluations = np.mean([np.asarray(trace.evaluations) for (_, trace), _ in calls])
        seconds = sum(seconds for _, seconds in calls)
        cost = float(evaluations), seconds / len(tokens), float(drawn.sum() / seconds), first_call
        rows.append(Measured(label, *sampled_with, len(tokens) // repeats, *cost, measure(tokens, drawn)))
    return rows


def _timed(draw: Callable, key: Array) -> tuple[tuple[Array, Trace], float]:
    start = time.perf_counter()
    found = jax.block_until_ready(draw(key))
    return found, time.perf_counter() - start
