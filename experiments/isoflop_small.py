"""`isoflop_small` of mdlm_jax.experiments, by the path that commands use."""

from mdlm_jax.experiments.isoflop_small import TITLE, grid  # noqa: F401
