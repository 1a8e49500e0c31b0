"""`densities` of mdlm_jax.experiments, by the path that commands use."""

from mdlm_jax.experiments.densities import TITLE, grid  # noqa: F401
