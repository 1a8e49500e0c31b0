"""The best learning rate of a curve of losses, with its interval over seeds, and how far it moves between curves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.laws.resampling import interval
from mdlm_jax.laws.seeds import seed_deviation

REPLICATES = 1000
SEEDS = 2  # of each rate, at least: one seed shows no noise


class BestRate(NamedTuple):
    """The minimum of a parabola in the logarithm of the rate, through the lowest loss and its two neighbours."""

    rate: float
    low: float  # 95% interval over seeds
    high: float
    loss: float  # there, nats per token
    interior: bool  # False: the lowest loss is that of the first or last rate, which the best one may lie beyond
    noise: float  # standard deviation of one loss between seeds
    replicates: Float[np.ndarray, "replicates"]  # of the rate


class LowestPoint(NamedTuple):
    """The minimum of a curve that is known at some points."""

    at: float
    value: float
    interior: bool  # False: the lowest of the points is the first or the last


class Shift(NamedTuple):
    """A best rate over another, with its 95% interval."""

    factor: float
    low: float
    high: float


def best_rate(rates: Sequence[float], losses: Sequence[Sequence[float]], seed: int = 0) -> BestRate:
    """The best rate of a curve.

    Args:
        rates: Ascending, three or more.
        losses: For each rate those of its seeds, nats per token; none where a run failed, which counts as infinite.
        seed: Of the replicates, in which the mean of each rate moves by its noise.

    Raises:
        ValueError: There are fewer than three rates, or no two seeds of a rate.
    """
    noise = seed_deviation(losses)
    if len(rates) < 3 or not np.isfinite(noise):
        raise ValueError(f"{len(rates)} rates with {losses}: takes three rates, and two seeds of one")
    logs = np.log(np.asarray(rates, float))
    means = np.array([np.mean(of_rate) if len(of_rate) else np.inf for of_rate in losses])
    errors = noise / np.sqrt([max(len(of_rate), 1) for of_rate in losses])
    draws = means + errors * np.random.default_rng(seed).standard_normal((REPLICATES, len(rates)))
    replicates = np.exp([lowest_point(logs, drawn).at for drawn in draws])
    found = lowest_point(logs, means)
    low, high = interval(replicates)
    rate = float(np.exp(found.at))
    return BestRate(rate, float(low), float(high), found.value, found.interior, noise, replicates)


def lowest_point(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> LowestPoint:
    """Where the parabola through the lowest point and its neighbours is lowest.

    The lowest point itself, at an end and where a neighbour is infinite, as beside a rate at which training fails.
    """
    best = int(y.argmin())
    interior, near = best not in (0, len(y) - 1), slice(best - 1, best + 2)
    if interior and np.isfinite(y[near]).all():
        second, first, constant = np.polyfit(x[near] - x[best], y[near], 2)
        if second > 0:
            return LowestPoint(float(x[best] - first / (2 * second)), float(constant - first**2 / (4 * second)), True)
    return LowestPoint(float(x[best]), float(y[best]), interior)


def shift(best: BestRate, base: BestRate) -> Shift:
    """How far a best rate lies from that of the base, whose replicates have another seed."""
    low, high = interval(best.replicates / base.replicates)
    return Shift(best.rate / base.rate, float(low), float(high))
