"""`smdm` of mdlm_jax.experiments, by the path that commands use."""

from mdlm_jax.experiments.smdm import TITLE, grid  # noqa: F401
