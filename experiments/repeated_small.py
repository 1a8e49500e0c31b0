"""AR against masked diffusion over 1 to 64 epochs of 64 KB of text: where do they cross? For a laptop, 42 runs.

mdlm-jax sweep run experiments/repeated_small.py

Bytes of the Python standard library in rows of 32. At each size and objective one learning rate for all epochs.
"""

from ml_collections import ConfigDict

from configs import quickstart

TITLE = "AR against masked diffusion over 1 to 64 epochs of 65,536 bytes"

UNIQUE = 65_536
SIZES = ("8k", "33k", "131k")
EPOCHS = (1, 2, 4, 8, 16, 32, 64)
LEARNING_RATE = 1e-2


def grid() -> list[ConfigDict]:
    configs = []
    for objective in ("ar", "masked"):
        for size in SIZES:
            for epochs in EPOCHS:
                config = quickstart.get_config()
                config.objective.name = objective
                config.budget = 0.0
                config.data.unique_tokens = UNIQUE
                config.steps = UNIQUE * epochs // (config.train.batch_size * config.data.sequence_length)
                config.model.size = size
                config.optim.lr = LEARNING_RATE
                configs.append(config)
    return configs
