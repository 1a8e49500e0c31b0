"""`novels_small` of mdlm_jax.configs, by the path that commands use."""

from mdlm_jax.configs.novels_small import get_config  # noqa: F401
