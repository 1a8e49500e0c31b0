"""The compute multiplier where the loss has an irreducible part: L*(C) = E + A C^-a, with one E for both objectives.

Two objectives that bound the same likelihood have one E: the entropy of the data. The pure power law sets it to 0. The
budgets of most sweeps span too little to tell the two forms apart, so both are worth a look.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.laws.multiplier import Multiplier, compute_multiplier
from mdlm_jax.laws.optima import Optima
from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.resampling import interval

GRID, ZOOMS, STEPS = 11, 7, 4  # values of E at once; refinements by a factor of 5; Gauss-Newton steps at each E
REPLICATES = 500  # most of the bootstrap that are used
MIN_MINIMA = 6  # for five parameters
ROOM = 1e-9  # share of the lowest loss by which E stays below it


class FloorMultiplier(NamedTuple):
    """The multiplier under L = E + A C^-a, and E in nats per token with its 95% interval."""

    floor: float
    floor_low: float
    floor_high: float
    multiplier: Multiplier


class _Lines(NamedTuple):
    """ln(L - E) = intercept - exponent ln C, and the sum of squares of ln L around it."""

    intercept: np.ndarray
    exponent: np.ndarray
    squares: np.ndarray


def _lines(log_compute: np.ndarray, loss: np.ndarray, floor: np.ndarray) -> _Lines:
    """Least squares of ln L at given E, by Gauss-Newton from the weighted line through ln(L - E).

    Args:
        log_compute: The ln C of the minima, [n].
        loss: Their losses, [fits, 1, n].
        floor: E, [fits, grid].
    """
    gap = loss - floor[..., None]
    target, weight = np.log(gap), (gap / loss) ** 2
    mean_x = mean_y = slope = residual = np.zeros(())
    for _ in range(STEPS):
        total = weight.sum(-1)
        mean_x, mean_y = (weight * log_compute).sum(-1) / total, (weight * target).sum(-1) / total
        centred = log_compute - mean_x[..., None]
        slope = (weight * centred * target).sum(-1) / (weight * centred**2).sum(-1)
        line = mean_y[..., None] + slope[..., None] * centred
        reduced = np.exp(line)
        share = reduced / (floor[..., None] + reduced)  # d ln L / d line
        residual = np.log(loss) - np.log(floor[..., None] + reduced)
        target, weight = line + residual / share, share**2
    return _Lines(mean_y - slope * mean_x, -slope, (residual**2).sum(-1))


def _fit(log_computes: list[np.ndarray], losses: list[Float[np.ndarray, "fits n"]]):
    """E of each fit, and the lines of both objectives at it."""
    low = np.zeros(len(losses[0]))
    high = np.minimum(*(loss.min(axis=1) for loss in losses)) * (1 - ROOM)
    for _ in range(ZOOMS):
        grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, GRID)
        squares = sum(_lines(x, loss[:, None], grid).squares for x, loss in zip(log_computes, losses, strict=True))
        best = np.argmin(np.where(np.isfinite(squares), squares, np.inf), axis=1)
        rows = np.arange(len(grid))
        low, high = grid[rows, np.maximum(best - 1, 0)], grid[rows, np.minimum(best + 1, GRID - 1)]
        floor = grid[rows, best]
    lines = [_lines(x, loss[:, None], floor[:, None]) for x, loss in zip(log_computes, losses, strict=True)]
    return floor, lines


def multiplier_with_floor(reference: Optima, other: Optima) -> FloorMultiplier | Refusal:
    """FLOPs of `other` over FLOPs of `reference` for the same loss, each along L*(C) = E + A C^-a with a common E.

    E and both lines are least squares of ln L* on the minima, E from 0 to below the lowest of them. It is refused where
    `compute_multiplier` is, and with fewer than six minima. Its interval is over the same bootstrap replicates.
    """
    pure = compute_multiplier(reference, other)
    if isinstance(pure, Refusal):
        return pure
    both = (reference, other)
    minima = sum(len(best.budgets) for best in both)
    if minima < MIN_MINIMA or min(len(best.budgets) for best in both) < 3:
        return Refusal(f"an irreducible loss takes {MIN_MINIMA} minima, three of each objective; there are {minima}")
    log_computes = [np.log(best.budgets) for best in both]
    samples = [best.sample.loss[:REPLICATES] for best in both if not isinstance(best.sample, Refusal)]
    whole = np.all([np.isfinite(sample).all(axis=1) for sample in samples], axis=0)
    losses = [np.vstack([best.loss, sample[whole]]) for best, sample in zip(both, samples, strict=True)]
    floor, lines = _fit(log_computes, losses)
    ends = [
        [floor[0] + np.exp(line.intercept[0, 0] - line.exponent[0, 0] * x) for x in (at.max(), at.min())]
        for line, at in zip(lines, log_computes, strict=True)
    ]
    bottom, top = max(low for low, _ in ends), min(high for _, high in ends)
    if bottom >= top:
        return Refusal("the losses do not overlap under an irreducible loss")
    loss = np.exp(np.linspace(np.log(bottom), np.log(top), len(pure.loss)))
    gap = loss - floor[:, None]
    log_gap = np.log(np.where(gap > 0, gap, np.nan))
    first, second = ((line.intercept - log_gap) / np.where(line.exponent > 0, line.exponent, np.nan) for line in lines)
    log_ratios = second - first
    low, high = interval(log_ratios[1:])
    mean = (log_ratios[0].mean(), *interval(log_ratios[1:].mean(axis=1)))
    found = Multiplier(
        loss, *(np.exp(value) for value in (log_ratios[0], low, high)), *(float(np.exp(value)) for value in mean)
    )
    return FloorMultiplier(float(floor[0]), *(float(end) for end in interval(floor[1:])), found)
