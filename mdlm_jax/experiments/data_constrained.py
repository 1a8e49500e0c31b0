"""AR against masked diffusion over 1 to 64 epochs of 16,384 bytes of English novels: where do they cross? 60 runs.

mdlm-jax sweep run experiments/data_constrained.py

The corpus is built first, as configs/novels_small.py says. A quarter of an hour on one CPU core. Losses are those of
the last step: nothing is stopped early.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import novels_small

TITLE = "AR against masked diffusion over 1 to 64 epochs of 16,384 bytes"

UNIQUE = 16_384
EPOCHS = (1, 4, 16, 32, 64)
SEEDS = (0, 1)
# Peak learning rate by objective and size, one for all numbers of epochs; half and twice the rate were tried after 8
# epochs, with one seed (results/data_constrained/learning_rates.json).
LEARNING_RATES = {
    "ar": {"8k": 2e-2, "33k": 1e-2, "131k": 1e-2},
    "masked": {"8k": 1e-2, "33k": 1e-2, "131k": 5e-3},
}


def grid() -> list[ConfigDict]:
    configs = []
    for objective, rates in LEARNING_RATES.items():
        for size, rate in rates.items():
            for epochs in EPOCHS:
                for seed in SEEDS:
                    config = novels_small.get_config()
                    config.objective.name = objective
                    config.data.unique_tokens = UNIQUE
                    config.budget = 0.0
                    config.steps = UNIQUE * epochs // (config.train.batch_size * config.data.sequence_length)
                    config.model.size = size
                    config.optim.lr = rate
                    config.seed = seed
                    configs.append(config)
    return configs
