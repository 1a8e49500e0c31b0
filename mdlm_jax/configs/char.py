"""Tiny Shakespeare by the byte, in a few minutes on a laptop: the first run to look at and to sample from.

mdlm-jax train --run runs/char --config configs/char.py --config.data.path=input.txt
mdlm-jax sample --run runs/char --prompt "ROMEO:"
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.objective.name = "ar"
    config.steps = 2000
    config.data.source = "text"
    config.data.path = "input.txt"
    config.data.sequence_length = 128
    config.model.size = "197k"
    config.optim.lr = 6e-3
    config.train.batch_size = 32
    config.train.validate_every = 500
    return config
