"""The runs of experiments/quickstart.py: bytes of the Python standard library, for two CPU cores.

One run takes 10 to 40 seconds; the sweep sets the objective, the size, the budget and the learning rate.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.budget = 3e10
    config.model.size = "12k"
    config.data.sequence_length = 64
    config.train.batch_size = 32
    config.train.checkpoint_every = 0
    config.train.scan_layers = True  # compiles in a third of the time, which is what counts here
    return config
