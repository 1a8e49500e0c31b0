"""`data_constrained` of mdlm_jax.experiments, by the path that commands use."""

from mdlm_jax.experiments.data_constrained import TITLE, grid  # noqa: F401
