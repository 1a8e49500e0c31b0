"""`text8` of mdlm_jax.configs, by the path that commands use."""

from mdlm_jax.configs.text8 import get_config  # noqa: F401
