"""IsoFLOP curves: runs of many sizes at one budget, and the size with the least loss (approach 2)."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import Akima1DInterpolator

from mdlm_jax.laws.refusal import Refusal

MIN_SIZES = 3


class IsoFlop(NamedTuple):
    """The runs of one objective at one budget; every seed is a run."""

    budget: float  # FLOPs
    counter: str  # of the budget
    parameters: Float[np.ndarray, "runs"]
    tokens: Float[np.ndarray, "runs"]
    loss: Float[np.ndarray, "runs"]  # nats per token
    error: Float[np.ndarray, "runs"]  # Monte Carlo error of the loss


class Minimum(NamedTuple):
    """The minimum of one isoFLOP curve, or the best size (`interior` is False) if it has none inside the grid."""

    parameters: float
    loss: float  # nats per token
    curvature: float  # second derivative of the fitted curve in ln N, at its minimum
    interior: bool


def _too_few(parameters: np.ndarray, curve: str) -> Refusal | None:
    sizes = len(np.unique(parameters))
    if sizes < MIN_SIZES:
        words = "1 size makes" if sizes == 1 else f"{sizes} sizes make"
        return Refusal(f"{words} no {curve}, which takes {MIN_SIZES}")
    return None


def isoflop_minimum(parameters: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"]) -> Minimum | Refusal:
    """The vertex of the parabola of `loss` in log N, if it is a minimum between the smallest and the largest N."""
    if refusal := _too_few(parameters, "parabola"):
        return refusal
    x = np.log(parameters)
    second, first, constant = np.polyfit(x - x.mean(), loss, 2)
    vertex = x.mean() - first / (2 * second) if second > 0 else np.inf
    if x.min() < vertex < x.max():
        return Minimum(float(np.exp(vertex)), float(constant - first**2 / (4 * second)), float(2 * second), True)
    # the mean over seeds, since the best of several seeds is biased
    sizes, group = np.unique(parameters, return_inverse=True)
    means = np.bincount(group, loss) / np.bincount(group)
    best = np.argmin(means)
    return Minimum(float(sizes[best]), float(means[best]), float(2 * second), False)


def akima_minimum(parameters: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"]) -> Minimum | Refusal:
    """The lowest point of Akima's interpolation of log L in log N (Porian et al. 2024, section 3).

    The curve passes through the mean of each size. It assumes no shape, so it needs runs with little noise.
    """
    if refusal := _too_few(parameters, "curve"):
        return refusal
    sizes, group = np.unique(parameters, return_inverse=True)
    log_loss = np.bincount(group, np.log(loss)) / np.bincount(group)
    curve = Akima1DInterpolator(np.log(sizes), log_loss)
    inside = curve.derivative().roots(extrapolate=False)
    candidates = np.concatenate([np.log(sizes), inside[np.isfinite(inside)]])
    best = candidates[np.argmin(curve(candidates))]
    least = float(np.exp(curve(best)))
    curvature = least * float(curve(best, 2))
    return Minimum(float(np.exp(best)), least, curvature, bool(np.log(sizes[0]) < best < np.log(sizes[-1])))


class Selection(NamedTuple):
    """The budgets with a minimum, in order, and one line for each budget without one or in another counter."""

    curves: list[IsoFlop]
    minima: list[Minimum]
    left_out: list[str]


def interior_minima(isoflops: Sequence[IsoFlop]) -> Selection:
    """Parabola minima of the budgets in the most common counter; `left_out` names the others."""
    counter = Counter(curve.counter for curve in isoflops).most_common(1)[0][0] if isoflops else ""
    selection = Selection([], [], [])
    for curve in sorted(isoflops, key=lambda curve: curve.budget):
        name = f"budget {curve.budget:.3g}"
        if curve.counter != counter:
            selection.left_out.append(f"{name}: counted in {curve.counter}, the others in {counter}")
            continue
        minimum = isoflop_minimum(curve.parameters, curve.loss)
        if isinstance(minimum, Refusal):
            selection.left_out.append(f"{name}: {minimum.reason}")
        elif not minimum.interior:
            selection.left_out.append(f"{name}: the minimum is at the edge of the sizes")
        elif minimum.loss <= 0:
            selection.left_out.append(f"{name}: the least loss, {minimum.loss:.3g}, is not positive")
        else:
            selection.curves.append(curve)
            selection.minima.append(minimum)
    return selection
