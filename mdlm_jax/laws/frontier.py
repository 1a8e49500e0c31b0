"""The least loss at each compute, over finished runs or over all points of their learning curves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

from mdlm_jax.errors import UserError

POINTS = 1500  # of the frontier (Hoffmann et al. 2022, section 3.1)
WIDTH = 0.02  # standard deviation of the smoothing, in decades of compute


class LearningCurve(NamedTuple):
    """The learning curve of one run, in order of its tokens."""

    parameters: float
    tokens: Float[np.ndarray, "steps"]
    flops: Float[np.ndarray, "steps"]
    loss: Float[np.ndarray, "steps"]  # nats per token


class Frontier(NamedTuple):
    """The best run at each compute. `interior` is False if it is the smallest or the largest run that got there."""

    flops: Float[np.ndarray, "points"]
    loss: Float[np.ndarray, "points"]
    parameters: Float[np.ndarray, "points"]
    tokens: Float[np.ndarray, "points"]
    interior: Bool[np.ndarray, "points"]


def frontier(flops: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"]) -> np.ndarray:
    """Indices of the runs on the compute-efficient frontier, in order of FLOPs: no cheaper run has as low a loss."""
    order = np.lexsort((loss, flops))
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(loss[order])[:-1]])
    return order[loss[order] < best_before]


def _smoothed(curve: LearningCurve, log_flops: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
    """ln loss at each compute, smoothed in ln C; NaN outside the run."""
    x = np.log(curve.flops)
    inside = (log_flops >= x[0]) & (log_flops <= x[-1])
    smooth = np.full(len(log_flops), np.nan)
    if inside.any():
        read = np.interp(log_flops[inside], x, np.log(curve.loss))
        # A straight line is subtracted first: the filter repeats the ends, which would flatten a falling curve.
        line = np.polyval(np.polyfit(log_flops[inside], read, 1), log_flops[inside]) if inside.sum() > 1 else read
        step = (log_flops[-1] - log_flops[0]) / (len(log_flops) - 1) / np.log(10)
        smooth[inside] = line + gaussian_filter1d(read - line, WIDTH / step, mode="nearest")
    return smooth


def smoothed_frontier(curves: Sequence[LearningCurve]) -> Frontier:
    """Approach 1 of Hoffmann et al. 2022: the least smoothed loss at 1,500 FLOP counts, and the N and D that reach it.

    Fit laws of N*, D* and L* to its interior points only: elsewhere a size outside the grid might have been better.
    Runs whose schedule is longer than the compute lie above what that compute could reach.

    Raises:
        UserError: There are fewer than three sizes.
    """
    if len({curve.parameters for curve in curves}) < 3:
        raise UserError("a frontier over learning curves takes at least three sizes")
    lowest, highest = min(curve.flops[0] for curve in curves), max(curve.flops[-1] for curve in curves)
    log_flops = np.linspace(np.log(lowest), np.log(highest), POINTS)
    log_loss = np.stack([_smoothed(curve, log_flops) for curve in curves])
    reached = np.isfinite(log_loss).any(axis=0)
    log_flops, log_loss = log_flops[reached], log_loss[:, reached]
    best = np.nanargmin(log_loss, axis=0)
    sizes = np.array([curve.parameters for curve in curves])
    there = np.where(np.isfinite(log_loss), sizes[:, None], np.nan)
    interior = (sizes[best] > np.nanmin(there, axis=0)) & (sizes[best] < np.nanmax(there, axis=0))
    tokens = [
        np.exp(np.interp(at, np.log(curves[run].flops), np.log(curves[run].tokens)))
        for at, run in zip(log_flops, best, strict=True)
    ]
    indices = np.arange(len(best))
    loss = np.exp(log_loss[best, indices])
    return Frontier(np.exp(log_flops), loss, sizes[best], np.array(tokens), interior)
