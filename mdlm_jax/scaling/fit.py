"""Scaling laws from arrays: isoFLOP minima, power laws, the frontier, and what one objective costs more than another.

SMDM's recipe (arXiv 2410.18514, section 3 and eq. 5): at each budget a parabola of the loss in log N, then least
squares of log L* (and log N*, log D*) on log C.

The intervals are from a parametric bootstrap of the runs around their parabolas. Four sizes leave a parabola one degree
of freedom, and resampling so few residuals would be far too narrow: instead all budgets of an objective share one
residual variance, each replicate draws that variance anew from its scaled inverse chi-squared distribution (which turns
normal intervals into Student ones), and a run's noise is never smaller than its Monte Carlo error. The choice of
validation text is not resampled: all runs read the same one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.errors import UserError

MAX_DECADES = 1.5  # of compute beyond the fitted budgets; further, nothing is said
MAX_LOST = 0.05  # share of replicates that may lack a minimum or a falling loss before the interval is refused
MIN_SIZES = 3


class Refusal(NamedTuple):
    """A number that the runs do not support, and why."""

    reason: str


class Minimum(NamedTuple):
    """Of one isoFLOP curve. `interior` is False where the parabola has none inside the grid: the best run stands in."""

    parameters: float
    loss: float  # nats per token
    curvature: float  # second derivative of the loss in ln N
    interior: bool


class PowerLaw(NamedTuple):
    """y = coefficient x^exponent, fitted for x from `low` to `high`."""

    exponent: float
    coefficient: float
    exponent_error: float  # standard error from the residuals; NaN where two points leave none
    low: float
    high: float


class IsoFlop(NamedTuple):
    """The runs of one objective at one budget; one place per run, seeds are further places."""

    budget: float  # FLOPs
    parameters: Float[np.ndarray, "runs"]
    tokens: Float[np.ndarray, "runs"]
    loss: Float[np.ndarray, "runs"]  # nats per token
    error: Float[np.ndarray, "runs"]  # Monte Carlo error of the loss


class Sample(NamedTuple):
    """Bootstrap replicates of the laws of one objective; NaN where a replicate lacks a minimum."""

    loss_exponent: Float[np.ndarray, "replicates"]
    loss_log_coefficient: Float[np.ndarray, "replicates"]
    parameters_exponent: Float[np.ndarray, "replicates"]
    tokens_exponent: Float[np.ndarray, "replicates"]


class Optima(NamedTuple):
    """The interior minima of one objective, by rising budget, and the laws through them."""

    budgets: Float[np.ndarray, "budgets"]
    parameters: Float[np.ndarray, "budgets"]
    tokens: Float[np.ndarray, "budgets"]
    loss: Float[np.ndarray, "budgets"]
    loss_law: PowerLaw
    parameters_law: PowerLaw
    tokens_law: PowerLaw
    sample: Sample | Refusal


class Multiplier(NamedTuple):
    """Compute of the other objective over compute of the reference at equal loss, over the losses that both reach."""

    loss: Float[np.ndarray, "losses"]
    value: Float[np.ndarray, "losses"]
    low: Float[np.ndarray, "losses"]  # 95% interval
    high: Float[np.ndarray, "losses"]
    mean: float  # geometric mean over the losses
    mean_low: float
    mean_high: float


def isoflop_minimum(parameters: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"]) -> Minimum | Refusal:
    """The vertex of the parabola of `loss` in log N, if a minimum between the smallest and the largest N."""
    if len(np.unique(parameters)) < MIN_SIZES:
        return Refusal(f"{len(np.unique(parameters))} sizes make no parabola, which takes {MIN_SIZES}")
    x = np.log(parameters)
    second, first, constant = np.polyfit(x - x.mean(), loss, 2)
    vertex = x.mean() - first / (2 * second) if second > 0 else np.inf
    if x.min() < vertex < x.max():
        return Minimum(float(np.exp(vertex)), float(constant - first**2 / (4 * second)), float(2 * second), True)
    best = np.argmin(loss)
    return Minimum(float(parameters[best]), float(loss[best]), float(2 * second), False)


def power_law(
    x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"] | None = None
) -> PowerLaw:
    """(Weighted) least squares of log y on log x. Raises UserError with fewer than two different x."""
    if len(np.unique(x)) < 2:
        raise UserError("a power law takes at least two different x")
    weights = np.ones_like(x) if weights is None else weights
    log_x, log_y = np.log(x), np.log(y)
    centre_x, centre_y = np.average(log_x, weights=weights), np.average(log_y, weights=weights)
    spread = np.sum(weights * (log_x - centre_x) ** 2)
    exponent = np.sum(weights * (log_x - centre_x) * (log_y - centre_y)) / spread
    residual = log_y - centre_y - exponent * (log_x - centre_x)
    degrees = len(x) - 2
    error = np.sqrt(np.sum(weights * residual**2) / degrees / spread) if degrees else np.nan
    coefficient = np.exp(centre_y - exponent * centre_x)
    return PowerLaw(float(exponent), float(coefficient), float(error), float(x.min()), float(x.max()))


def law_at(law: PowerLaw, x: float) -> float | Refusal:
    """y at x. Refused more than 1.5 decades outside the fitted range."""
    beyond = max(np.log10(law.low / x), np.log10(x / law.high))
    if beyond > MAX_DECADES:
        return Refusal(f"{x:.2g} lies {beyond:.1f} decades outside the fitted {law.low:.2g} to {law.high:.2g}")
    return float(law.coefficient * x**law.exponent)


def compute_at(law: PowerLaw, loss: float) -> float | Refusal:
    """FLOPs at which the law L*(C) reaches `loss`. Refused more than 1.5 decades outside the fitted budgets."""
    compute = float((loss / law.coefficient) ** (1 / law.exponent))
    reached = law_at(law, compute)
    return reached if isinstance(reached, Refusal) else compute


def frontier(flops: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"]) -> np.ndarray:
    """Indices of the runs on the compute-efficient frontier, by rising FLOPs: no run as cheap has as low a loss."""
    order = np.lexsort((loss, flops))
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(loss[order])[:-1]])
    return order[loss[order] < best_before]


def _log_tokens_at(curve: IsoFlop, log_parameters: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """By the budget's own trade of tokens for parameters, which is C = 6 N D for one of the counters only."""
    return np.polyval(np.polyfit(np.log(curve.parameters), np.log(curve.tokens), 2), log_parameters)


def _resampled_minima(
    curves: Sequence[IsoFlop], replicates: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | Refusal:
    """log N* and L* of every replicate, each [replicates, budgets]; NaN where a parabola has no minimum."""
    designs = [np.vander(np.log(curve.parameters / np.mean(curve.parameters)), 3) for curve in curves]
    solvers = [np.linalg.pinv(design) for design in designs]
    fitted = [design @ solver @ curve.loss for design, solver, curve in zip(designs, solvers, curves, strict=True)]
    squares = sum(np.sum((curve.loss - fit) ** 2) for curve, fit in zip(curves, fitted, strict=True))
    degrees = sum(len(curve.loss) - MIN_SIZES for curve in curves)
    if degrees == 0 and not any(np.any(curve.error > 0) for curve in curves):
        return Refusal("three sizes a budget and one seed leave no residual to judge the noise by")
    variance = squares / generator.chisquare(degrees, replicates) if degrees else np.zeros(replicates)
    places, losses = [], []
    for curve, fit, solver in zip(curves, fitted, solvers, strict=True):
        scale = np.sqrt(np.maximum(variance[:, None], curve.error**2))
        noisy = fit + scale * generator.standard_normal((replicates, len(fit)))
        second, first, constant = (noisy @ solver.T).T
        second = np.where(second > 0, second, np.nan)
        places.append(np.log(np.mean(curve.parameters)) - first / (2 * second))
        losses.append(constant - first**2 / (4 * second))
    return np.stack(places, axis=1), np.stack(losses, axis=1)


def _sample(curves: Sequence[IsoFlop], replicates: int, seed: int) -> Sample | Refusal:
    minima = _resampled_minima(curves, replicates, np.random.default_rng(seed))
    if isinstance(minima, Refusal):
        return minima
    log_parameters, loss = minima
    lost = ~np.all(loss > 0, axis=1)  # NaN too
    if lost.mean() > MAX_LOST:
        return Refusal(f"the noise of the runs leaves {lost.mean():.0%} of the replicates without a minimum")
    loss = np.where(lost[:, None], np.nan, loss)
    log_tokens = np.stack([_log_tokens_at(c, p) for c, p in zip(curves, log_parameters.T, strict=True)], axis=1)
    log_budgets = np.log([curve.budget for curve in curves])
    centred = log_budgets - log_budgets.mean()
    slope = lambda log_y: log_y @ centred / np.sum(centred**2)  # noqa: E731
    exponent = slope(np.log(loss))
    intercept = np.log(loss).mean(axis=1) - exponent * log_budgets.mean()
    return Sample(exponent, intercept, slope(log_parameters), slope(log_tokens))


def interval(values: Float[np.ndarray, "replicates *n"]) -> Float[np.ndarray, "2 *n"]:
    """The 2.5% and 97.5% points over the replicates."""
    return np.nanpercentile(values, (2.5, 97.5), axis=0)


def optima(isoflops: Sequence[IsoFlop], seed: int, replicates: int = 2000) -> Optima | Refusal:
    """Minima and laws of one objective. Give each objective its own `seed`: their noise is independent.

    Budgets whose minimum sits at the edge of the grid of sizes are left out; refused where fewer than two remain.
    """
    curves, minima = [], []
    for curve in sorted(isoflops, key=lambda curve: curve.budget):
        minimum = isoflop_minimum(curve.parameters, curve.loss)
        if isinstance(minimum, Minimum) and minimum.interior:
            curves.append(curve)
            minima.append(minimum)
    if len(curves) < 2:
        return Refusal(
            f"{len(curves)} of {len(isoflops)} budgets have a minimum inside the grid of sizes; it takes two"
        )
    budgets = np.array([curve.budget for curve in curves])
    parameters = np.array([minimum.parameters for minimum in minima])
    loss = np.array([minimum.loss for minimum in minima])
    tokens = np.exp([_log_tokens_at(c, np.log([n]))[0] for c, n in zip(curves, parameters, strict=True)])
    laws = [power_law(budgets, y) for y in (loss, parameters, tokens)]
    return Optima(budgets, parameters, tokens, loss, *laws, _sample(curves, replicates, seed))


def compute_multiplier(reference: Optima, other: Optima) -> Multiplier | Refusal:
    """FLOPs that `other` needs over FLOPs that `reference` needs for the same loss, each along its fitted L*(C).

    Over the losses that both reach inside their budgets. Refused where these do not overlap, where a loss does not fall
    with compute, or where there is nothing to judge the noise by.
    """
    for name, best in (("reference", reference), ("other", other)):
        if isinstance(best.sample, Refusal):
            return Refusal(f"{name}: {best.sample.reason}")
        if best.loss_law.exponent >= 0 or np.mean(~(best.sample.loss_exponent < 0)) > MAX_LOST:
            return Refusal(f"{name}: the loss does not clearly fall with compute")
    laws = (reference.loss_law, other.loss_law)
    lows = [law.coefficient * law.high**law.exponent for law in laws]
    highs = [law.coefficient * law.low**law.exponent for law in laws]
    bottom, top = max(lows), min(highs)
    if bottom >= top:
        ranges = [f"{low:.3f} to {high:.3f}" for low, high in zip(lows, highs, strict=True)]
        return Refusal(f"the losses do not overlap: {ranges[0]} nats for the reference, {ranges[1]} for the other")
    log_loss = np.linspace(np.log(bottom), np.log(top), 33)
    log_compute = [(log_loss - np.log(law.coefficient)) / law.exponent for law in laws]
    sampled = [
        (log_loss - best.sample.loss_log_coefficient[:, None])
        / np.where(best.sample.loss_exponent < 0, best.sample.loss_exponent, np.nan)[:, None]
        for best in (reference, other)
    ]
    log_ratio, log_ratios = log_compute[1] - log_compute[0], sampled[1] - sampled[0]
    low, high = interval(log_ratios)
    mean = (log_ratio.mean(), *interval(log_ratios.mean(axis=1)))
    return Multiplier(
        *(np.exp(values) for values in (log_loss, log_ratio, low, high)), *(float(np.exp(value)) for value in mean)
    )
