"""The runs of experiments/quickstart.py: bytes of the Python standard library, for two CPU cores.

One run takes 10 to 40 seconds; the sweep sets the objective, the size, the budget and the learning rate.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.budget = 3e10
    config.model.size = "4k"
    config.model.rope_base = 100.0  # wavelengths for 32 positions; with 1e4 a narrow head tells neighbours apart late
    config.data.sequence_length = 32
    config.train.batch_size = 16  # few tokens a step: at these budgets the number of steps is what is scarce
    config.train.checkpoint_every = 0
    config.train.scan_layers = True  # compiles in a third of the time, which is what counts here
    config.train.log_every = 100
    config.eval.sequences = 512
    config.eval.draws = 32
    config.eval.batch_size = 512
    return config
