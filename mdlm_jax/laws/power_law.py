"""Power laws: (weighted) least squares of logarithms."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.errors import UserError
from mdlm_jax.laws.refusal import Refusal, too_far


class PowerLaw(NamedTuple):
    """y = coefficient x^exponent, fitted for x from `low` to `high`."""

    exponent: float
    coefficient: float
    exponent_error: float  # standard error from the residuals; NaN where two points leave none
    low: float
    high: float


def power_law(
    x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"] | None = None
) -> PowerLaw:
    """(Weighted) least squares of log y on log x.

    Args:
        x: Predictor, such as budgets in FLOPs.
        y: Response, such as losses in nats per token.
        weights: Weights of the points: inverse variances of log y.

    Raises:
        UserError: There are fewer than two different x.
    """
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


def held_out_errors(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The error of predicting each point from the others: ln y minus the power law through all other points.

    Raises:
        UserError: Fewer than two different x are left.
    """
    laws = [power_law(np.delete(x, index), np.delete(y, index)) for index in range(len(x))]
    return np.log(y) - np.array(
        [np.log(law.coefficient) + law.exponent * np.log(at) for law, at in zip(laws, x, strict=True)]
    )


def law_at(law: PowerLaw, x: float) -> float | Refusal:
    """y at x, refused more than 1.5 decades outside the fitted range."""
    return too_far("x =", x, law.low, law.high) or float(law.coefficient * x**law.exponent)


def compute_at(law: PowerLaw, loss: float) -> float | Refusal:
    """FLOPs at which the law L*(C) reaches `loss`, refused more than 1.5 decades outside the fitted budgets."""
    compute = float((loss / law.coefficient) ** (1 / law.exponent))
    return too_far("C =", compute, law.low, law.high) or compute
