from mdlm_jax.experiments.unified_small import TITLE, grid  # noqa: F401
