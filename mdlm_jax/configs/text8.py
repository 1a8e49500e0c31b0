"""text8 in 256 characters, as MD4 (arXiv 2406.04329) trains it: 12 layers of 768, 512 sequences a step, 1M steps.

    mdlm-jax train --run runs/text8 --config configs/text8.py --config.data.path=text8.txt

Published bits per character: MD4 <= 1.37, SEDD <= 1.39, MDLM <= 1.40, AR 1.23. text8 is one line of 100M characters:
the last 5% are held out, which are the standard validation and test parts together.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.steps = 1_000_000
    config.data.source = "text"
    config.data.path = "text8.txt"
    config.data.sequence_length = 256
    config.model.size = ""
    config.model.layers = 12
    config.model.width = 768
    config.model.heads = 12
    config.model.key_value_heads = 12
    config.model.mlp_width = 2048
    config.optim.lr = 3e-4
    config.optim.beta_2 = 0.999
    config.optim.weight_decay = 0.03
    config.optim.warmup_min = 2000
    config.optim.warmup_share = 0.0
    config.optim.ema = 0.9999
    config.train.batch_size = 512
    config.train.compute_dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.attention = "library"
    config.train.validate_every = 10_000
    config.train.checkpoint_every = 5_000
    config.eval.sequences = 2048
    config.eval.draws = 16
    return config
