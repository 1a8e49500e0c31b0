"""`char` of mdlm_jax.configs, by the path that commands use."""

from mdlm_jax.configs.char import get_config  # noqa: F401
