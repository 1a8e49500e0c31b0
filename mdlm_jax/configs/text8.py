"""text8 in 256 characters, as MD4 (arXiv 2406.04329) trains it: 12 layers of 768, 512 sequences a step, 1M steps.

    mdlm-jax train --run runs/text8 --config configs/text8.py --config.data.path=text8.txt

Published bits per character: MD4 <= 1.37, SEDD <= 1.39, MDLM <= 1.40, AR 1.23. text8 is one line of 100M characters:
the last 5% are held out, which are the standard validation and test parts together.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import million_steps


def get_config() -> ConfigDict:
    config = million_steps.get_config()
    config.data.source = "text"
    config.data.path = "text8.txt"
    config.data.sequence_length = 256
    config.model.mlp_width = 2048
    config.optim.weight_decay = 0.03
    config.optim.warmup_min = 2000
    config.eval.sequences = 2048
    return config
