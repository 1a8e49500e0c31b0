"""Noise processes, as pure functions. A new one is a file beside these and a line in the dict."""

from mdlm_jax.processes import gaussian_vectors
from mdlm_jax.processes.base import (
    Process,
    draw,
    likelihood,
    mask_only,
    posterior,
    ratio,
    ratio_of_posterior,
    without_own,
)
from mdlm_jax.processes.matrix import chain, discretised_gaussian
from mdlm_jax.processes.mixture import absorbing, gidd, hybrid, uniform
from mdlm_jax.processes.state_dependent import powers

PROCESSES = {
    "absorbing": absorbing,
    "uniform": uniform,
    "hybrid": hybrid,
    "gidd": gidd,
    "gaussian_matrix": discretised_gaussian,
}

__all__ = [
    "PROCESSES",
    "Process",
    "absorbing",
    "chain",
    "discretised_gaussian",
    "draw",
    "gaussian_vectors",
    "gidd",
    "hybrid",
    "likelihood",
    "mask_only",
    "posterior",
    "powers",
    "ratio",
    "ratio_of_posterior",
    "uniform",
    "without_own",
]
