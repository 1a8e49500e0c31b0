"""The laws of one objective through its isoFLOP minima, with bootstrap intervals.

This is SMDM's recipe (arXiv 2410.18514, section 3 and eq. 5): at each budget a parabola of the loss in log N, then
least squares of log L* (and log N*, log D*) on log C.

The intervals are from a parametric bootstrap of the runs around their parabolas. Four sizes leave a parabola one degree
of freedom, too few residuals to resample. Instead, all budgets of an objective share one residual variance. Each
replicate draws that variance anew from its scaled inverse chi-squared distribution, which turns normal intervals into
Student's. The noise of a run is never smaller than its Monte Carlo error. The validation text is not resampled, since
all runs share it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.laws.isoflop import MIN_SIZES, IsoFlop, interior_minima
from mdlm_jax.laws.power_law import PowerLaw, power_law
from mdlm_jax.laws.refusal import Refusal

REPLICATES = 2000
MAX_LOST = 0.05  # largest share of replicates without a minimum or a falling loss


class Sample(NamedTuple):
    """Bootstrap replicates of the laws of one objective; NaN for replicates without a minimum."""

    loss_exponent: Float[np.ndarray, "replicates"]
    loss_log_coefficient: Float[np.ndarray, "replicates"]
    parameters_exponent: Float[np.ndarray, "replicates"]
    parameters_log_coefficient: Float[np.ndarray, "replicates"]
    tokens_exponent: Float[np.ndarray, "replicates"]
    tokens_log_coefficient: Float[np.ndarray, "replicates"]
    loss: Float[np.ndarray, "replicates budgets"]  # of the minima


class Optima(NamedTuple):
    """The interior minima of one objective, in order of their budgets, and the laws through them."""

    counter: str  # of the budgets, and so of every exponent
    budgets: Float[np.ndarray, "budgets"]
    parameters: Float[np.ndarray, "budgets"]
    tokens: Float[np.ndarray, "budgets"]
    loss: Float[np.ndarray, "budgets"]
    loss_law: PowerLaw
    parameters_law: PowerLaw
    tokens_law: PowerLaw
    sample: Sample | Refusal
    left_out: list[str]  # one line for each unused budget


def _log_tokens_at(curve: IsoFlop, log_parameters: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The tokens of the runs of a budget, interpolated: C = 6 N D holds for one of the counters only."""
    return np.polyval(np.polyfit(np.log(curve.parameters), np.log(curve.tokens), 2), log_parameters)


def _resampled_minima(
    curves: Sequence[IsoFlop], replicates: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | Refusal:
    """log N* and L* of every replicate, [replicates, budgets] each; NaN for parabolas without a minimum."""
    designs = [np.vander(np.log(curve.parameters / np.mean(curve.parameters)), 3) for curve in curves]
    solvers = [np.linalg.pinv(design) for design in designs]
    fitted = [design @ solver @ curve.loss for design, solver, curve in zip(designs, solvers, curves, strict=True)]
    squares = sum(np.sum((curve.loss - fit) ** 2) for curve, fit in zip(curves, fitted, strict=True))
    degrees = sum(len(curve.loss) - MIN_SIZES for curve in curves)
    if degrees == 0 and not any(np.any(curve.error > 0) for curve in curves):
        return Refusal("three sizes per budget and one seed leave no residual to estimate the noise from")
    variance = squares / generator.chisquare(degrees, replicates) if degrees else np.zeros(replicates)
    log_sizes, losses = [], []
    for curve, fit, solver in zip(curves, fitted, solvers, strict=True):
        scale = np.sqrt(np.maximum(variance[:, None], curve.error**2))
        noisy = fit + scale * generator.standard_normal((replicates, len(fit)))
        second, first, constant = (noisy @ solver.T).T
        second = np.where(second > 0, second, np.nan)
        log_sizes.append(np.log(np.mean(curve.parameters)) - first / (2 * second))
        losses.append(constant - first**2 / (4 * second))
    return np.stack(log_sizes, axis=1), np.stack(losses, axis=1)


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
    laws = []
    for log_y in (np.log(loss), log_parameters, log_tokens):
        exponent = log_y @ centred / np.sum(centred**2)
        laws += [exponent, log_y.mean(axis=1) - exponent * log_budgets.mean()]
    return Sample(*laws, loss)


def optima(isoflops: Sequence[IsoFlop], seed: int, replicates: int = REPLICATES) -> Optima | Refusal:
    """Minima and laws of one objective, refused if fewer than two budgets have an interior minimum.

    Args:
        isoflops: One curve for each budget. Budgets in an uncommon counter, with too few sizes or with their minimum at
            the edge of the sizes are left out and named.
        seed: Seed of the bootstrap. The noise of objectives is independent, so give each its own seed.
        replicates: Number of bootstrap replicates.
    """
    curves, minima, left_out = interior_minima(isoflops)
    if len(curves) < 2:
        short = f"{len(curves)} of {len(isoflops)} budgets have a minimum inside the grid of sizes; it takes two"
        return Refusal("; ".join([short, *left_out]))
    budgets = np.array([curve.budget for curve in curves])
    parameters = np.array([minimum.parameters for minimum in minima])
    loss = np.array([minimum.loss for minimum in minima])
    tokens = np.exp([_log_tokens_at(c, np.log([n]))[0] for c, n in zip(curves, parameters, strict=True)])
    laws = [power_law(budgets, y) for y in (loss, parameters, tokens)]
    sample = _sample(curves, replicates, seed)
    return Optima(curves[0].counter, budgets, parameters, tokens, loss, *laws, sample, left_out)
