"""A kept fit whose law is known, made without fitting."""

import numpy as np

from mdlm_jax.laws import CHINCHILLA, Chinchilla, Fit, KeptFit, Runs
from mdlm_jax.laws.surface import named
from mdlm_jax.laws.uncertainty import covariance

TRUTH = Chinchilla(E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
NOISE = 0.004  # of ln loss


def known_runs(seed: int = 0) -> tuple[Runs, np.ndarray]:
    """64 runs around the truth: eight sizes by eight numbers of tokens, two decades each."""
    parameters, tokens = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 8), np.geomspace(1e9, 1e11, 8)))
    loss = TRUTH.E + TRUTH.A * parameters**-TRUTH.alpha + TRUTH.B * tokens**-TRUTH.beta
    return Runs(parameters, tokens), loss * np.exp(NOISE * np.random.default_rng(seed).standard_normal(len(loss)))


def known_fit(draws: int = 10_000) -> KeptFit:
    """The truth as if it were the fit, with draws that have its Gauss-Newton covariance."""
    runs, loss = known_runs()
    coordinates = np.where(CHINCHILLA.logarithmic, np.log(TRUTH), TRUTH)
    fitted = Fit(
        CHINCHILLA, "squares", runs, loss, np.ones(5, bool), coordinates, named(CHINCHILLA, coordinates), 1.0, 1.0
    )
    drawn = np.random.default_rng(1).multivariate_normal(coordinates, covariance(fitted), draws)
    return KeptFit(fitted, drawn)
