"""What `owt` and `text8` share: 12 layers of width 768, trained for 1M steps of 512 sequences."""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.steps = 1_000_000
    config.model.size = ""
    config.model.layers = 12
    config.model.width = 768
    config.model.heads = 12
    config.model.key_value_heads = 12
    config.optim.lr = 3e-4
    config.optim.beta_2 = 0.999
    config.optim.warmup_share = 0.0
    config.optim.ema = 0.9999
    config.train.batch_size = 512
    config.train.compute_dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.attention = "library"
    config.train.validate_every = 10_000
    config.train.checkpoint_every = 5_000
    config.eval.draws = 16
    return config
