"""Estimators: terms of which a fit of the loss minimises the sum over the runs.

It is a sum and no mean: the mean stopped Hoffmann et al.'s L-BFGS early (Besiroglu et al. 2024, arXiv 2404.10102).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

DELTA = 1e-3  # where Huber's loss changes from squared to absolute (Hoffmann et al. 2022)
LEAST_SCALE = 1e-9  # nats; without noise a fitted scale would go to 0 and its logarithm to minus infinity


class Estimator(NamedTuple):
    """One estimator. The fit with each threshold starts from the result of the threshold before it."""

    terms: Callable[..., Float[Array, "runs"]]  # of (ln loss, ln predicted loss, ln scale, threshold)
    thresholds: tuple[float, ...]
    likelihood: bool  # whether `terms` are a negative log density, as likelihood ratios need


def _huber(x: Float[Array, "runs"], threshold: Float[Array, ""]) -> Float[Array, "runs"]:
    size = jnp.abs(x)
    return jnp.where(size <= threshold, x**2 / 2, threshold * (size - threshold / 2))


def _huber_sum(log_loss, predicted, log_scale, threshold):
    return _huber(log_loss - predicted, threshold) / threshold


def _fitted_scale(log_loss, predicted, log_scale, threshold):
    """Huber's density of residual / sigma. With sigma = threshold x scale, its tails decay over `scale` nats."""
    sigma = threshold * (jnp.exp(log_scale) + LEAST_SCALE)
    area = jnp.sqrt(2 * jnp.pi) * (1 - 2 * norm.sf(threshold)) + 2 * jnp.exp(-(threshold**2) / 2) / threshold
    return _huber((log_loss - predicted) / sigma, threshold) + jnp.log(sigma) + jnp.log(area)


def _squares(log_loss, predicted, log_scale, threshold):
    return (jnp.exp(log_loss) - jnp.exp(predicted)) ** 2 / 2


ESTIMATORS = {
    # Huber's loss of ln L over delta, in nats: Hoffmann et al.'s approach 3.
    "huber_sum": Estimator(_huber_sum, (DELTA,), False),
    # Besiroglu et al.'s likelihood, with a fitted scale. Delta is then so small beside the residuals that this is least
    # absolute deviations. Its kinks stall L-BFGS, so the fit approaches it through smoother thresholds.
    "fitted_scale": Estimator(_fitted_scale, (1.0, 0.1, 0.01, DELTA, DELTA), True),
    # Half the squared error of the loss itself, not of its logarithm.
    "squares": Estimator(_squares, (DELTA,), True),
}
