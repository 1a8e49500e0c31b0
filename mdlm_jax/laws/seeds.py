"""The noise between seeds, and means over seeds with intervals."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from mdlm_jax.laws.refusal import Refusal

CONFIDENCE = 0.95


class SeedMean(NamedTuple):
    mean: float
    low: float  # 95% interval
    high: float
    seeds: int


def seed_deviation(cells: Iterable[Sequence[float]]) -> float:
    """Standard deviation of a loss between seeds, pooled over cells of equal runs; NaN if no cell has two seeds."""
    several = [np.asarray(cell, float) for cell in cells if len(cell) > 1]
    squares = sum(np.sum((cell - cell.mean()) ** 2) for cell in several)
    return float(np.sqrt(squares / sum(len(cell) - 1 for cell in several))) if several else float("nan")


def seed_mean(values: Float[np.ndarray, "seeds"], monte_carlo_error: float) -> SeedMean | Refusal:
    """Student's interval over seeds, widened by the Monte Carlo error that all seeds share.

    All seeds are evaluated with the same noise draws, so this error does not shrink with their number. It counts as
    known in the degrees of freedom (Welch and Satterthwaite). One seed shows no spread and is refused.
    """
    if len(values) < 2:
        return Refusal("one seed shows no spread")
    variance = np.var(values, ddof=1) / len(values)
    total = variance + monte_carlo_error**2
    degrees = (len(values) - 1) * (total / variance) ** 2 if variance > 0 else np.inf
    half = stdtrit(degrees, (1 + CONFIDENCE) / 2) * np.sqrt(total)
    mean = float(np.mean(values))
    return SeedMean(mean, float(mean - half), float(mean + half), len(values))
