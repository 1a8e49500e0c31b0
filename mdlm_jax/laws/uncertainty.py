"""Uncertainty of a fitted law: bootstraps, profile likelihoods and held-out budgets."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from mdlm_jax.errors import UserError
from mdlm_jax.laws.estimators import ESTIMATORS
from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.surface import Fit, named, predict, slopes, solve, unidentified

POINTS = 41  # of a profile
WIDEST = np.log(1e3)  # largest half width of a profile: three decades of a positive parameter
CONFIDENCE = 0.95


class Profile(NamedTuple):
    """The best fit at each value of one parameter, with the others refitted."""

    parameter: str
    values: Float[np.ndarray, "points"]
    deviance: Float[np.ndarray, "points"]  # twice the decrease of the log likelihood
    threshold: float  # of the deviance inside the 95% interval
    interval: tuple[float, float] | Refusal


class HeldOut(NamedTuple):
    """The errors of predicting each budget by a fit to the others."""

    budgets: Float[np.ndarray, "budgets"]
    bias: Float[np.ndarray, "budgets"]  # mean of ln loss - ln predicted loss
    error: Float[np.ndarray, "budgets"]  # root mean square of the same


def refitted(fitted: Fit, weights: Float[np.ndarray, "replicates runs"]) -> Float[np.ndarray, "replicates parameters"]:
    """The coordinates refitted with each row of `weights` (`resampling.py`), starting from the fit to all runs.

    One start is enough: on the Chinchilla runs all 36 starts end in one optimum.
    """
    replicates = (len(weights), 1)
    starts, free = np.tile(fitted.coordinates, replicates), np.tile(fitted.free, replicates)
    return solve(fitted.law, fitted.estimator, fitted.inputs, fitted.loss, weights, starts, free).coordinates


def bootstrap(fitted: Fit, weights: Float[np.ndarray, "replicates runs"]) -> Any:
    """The law's parameters refitted with each row of `weights`, as `refitted`.

    Returns:
        The law's NamedTuple, with an array over the replicates for each parameter.
    """
    return named(fitted.law, refitted(fitted, weights))


def residual_variance(fitted: Fit) -> tuple[float, int]:
    """The variance of ln loss around the law, and its degrees of freedom (runs minus free parameters)."""
    residual = np.log(fitted.loss) - predict(fitted.law, fitted.coordinates, fitted.inputs)
    degrees = len(residual) - int(fitted.free.sum())
    return float(np.sum(residual**2) / degrees), degrees


def covariance(fitted: Fit) -> Float[np.ndarray, "parameters parameters"]:
    """The Gauss-Newton covariance of the coordinates, zero for those that stayed at their start."""
    found = np.zeros(2 * fitted.free.shape)
    effects = slopes(fitted.law, fitted.coordinates, fitted.inputs)[:, fitted.free]
    found[np.ix_(fitted.free, fitted.free)] = residual_variance(fitted)[0] * np.linalg.pinv(effects.T @ effects)
    return found


def _crossing(values: np.ndarray, above: np.ndarray, threshold: float) -> float:
    """The value at which `above` falls below the threshold."""
    last = np.flatnonzero(above > threshold)[-1]
    share = (above[last] - threshold) / (above[last] - above[last + 1])
    return float(values[last] + share * (values[last + 1] - values[last]))


def profile(fitted: Fit, parameter: str, values: Float[np.ndarray, "points"] | None = None) -> Profile:
    """The profile likelihood of one parameter.

    Its interval is refused if the likelihood does not fall far enough within the values. The threshold is Student's: it
    is exact for normal noise and a linear law, and tends to the 3.84 of chi-squared with many runs.

    Args:
        fitted: A fit with an estimator that is a likelihood: 'fitted_scale' or 'squares'.
        parameter: Its name in the law.
        values: Where to profile, beside the fitted value; five standard errors either way by default.

    Raises:
        UserError: The parameter is unknown or was not free, or the estimator is no likelihood.
    """
    law, names = fitted.law, fitted.law.values._fields
    if not ESTIMATORS[fitted.estimator].likelihood:
        allowed = ", ".join(name for name, estimator in ESTIMATORS.items() if estimator.likelihood)
        raise UserError(f"estimator '{fitted.estimator}' is no likelihood, so has no profile; fit with {allowed}")
    free = [name for name, is_free in zip(names, fitted.free, strict=True) if is_free]
    if parameter not in free:
        raise UserError(f"parameter '{parameter}': expected one of {', '.join(free)}")
    which, spreads = names.index(parameter), covariance(fitted)
    centre, spread = fitted.coordinates[which], np.sqrt(spreads[which, which])
    if values is None:
        grid = centre + min(5 * spread, WIDEST) * np.linspace(-1, 1, POINTS)
    else:
        grid = np.union1d(np.log(values) if law.logarithmic[which] else values, centre)
    # Two starts for each point: along the covariance with the other parameters, and with these unchanged.
    along = fitted.coordinates + np.outer(grid - centre, spreads[which] / spreads[which, which])
    still = np.tile(fitted.coordinates, (len(grid), 1))
    still[:, which] = grid
    starts = np.concatenate([along, still])
    others = np.tile(fitted.free & (np.arange(len(names)) != which), (len(starts), 1))
    weights = np.ones((len(starts), len(fitted.loss)))
    solved = solve(law, fitted.estimator, fitted.inputs, fitted.loss, weights, starts, others)
    objective = np.nanmin(solved.objective.reshape(2, -1), axis=0)
    n, degrees = len(fitted.loss), len(fitted.loss) - len(free)
    if fitted.estimator == "squares":
        deviance = n * np.log(objective / fitted.objective)
    else:
        deviance = 2 * (objective - fitted.objective)
    threshold = float(n * np.log1p(stdtrit(degrees, (1 + CONFIDENCE) / 2) ** 2 / degrees))
    natural = np.exp(grid) if law.logarithmic[which] else grid
    return Profile(parameter, natural, deviance, threshold, _interval(parameter, natural, deviance, threshold))


def _interval(parameter: str, values: np.ndarray, deviance: np.ndarray, threshold: float):
    best = np.argmin(deviance)
    sides = [side for side, end in (("below", deviance[0]), ("above", deviance[-1])) if end <= threshold]
    if sides:
        return Refusal(
            f"{parameter} is not bounded {' nor '.join(sides)}: at {values[0]:.3g} the deviance is {deviance[0]:.2g}, "
            f"at {values[-1]:.3g} it is {deviance[-1]:.2g}, and noise allows {threshold:.2g}"
        )
    low = _crossing(values[: best + 1], deviance[: best + 1], threshold)
    high = _crossing(values[best:][::-1], deviance[best:][::-1], threshold)
    return low, high


def leave_one_budget_out(fitted: Fit, budgets: Float[np.ndarray, "runs"]) -> HeldOut | Refusal:
    """The error of predicting ln loss at each budget by the same law fitted to all other budgets.

    The largest budget shows how well the law extrapolates. It is refused if the runs without some budget do not
    determine the law.

    Args:
        fitted: The fit to all runs.
        budgets: The budget of each run.

    Raises:
        UserError: There are fewer than two budgets.
    """
    labels = np.unique(budgets)
    if len(labels) < 2:
        raise UserError("leaving one budget out takes at least two budgets")
    held = budgets == labels[:, None]
    starts, free = np.tile(fitted.coordinates, (len(labels), 1)), np.tile(fitted.free, (len(labels), 1))
    solved = solve(fitted.law, fitted.estimator, fitted.inputs, fitted.loss, (~held).astype(float), starts, free)
    for label, mine, coordinates in zip(labels, held, solved.coordinates, strict=True):
        kept = jax.tree.map(lambda column, mine=mine: column[~mine], fitted.inputs)
        if refusal := unidentified(fitted.law, coordinates, fitted.free, kept):
            return Refusal(f"without the budget {label:.3g}: {refusal.reason}")
    log_loss = np.log(fitted.loss)
    residuals = [
        log_loss[mine] - predict(fitted.law, coordinates, fitted.inputs)[mine]
        for mine, coordinates in zip(held, solved.coordinates, strict=True)
    ]
    bias = np.array([np.mean(residual) for residual in residuals])
    return HeldOut(labels, bias, np.array([np.sqrt(np.mean(residual**2)) for residual in residuals]))
