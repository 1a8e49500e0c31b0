"""One network, one budget, many objectives: which bound is tightest after the same compute? 27 runs.

mdlm-jax sweep run experiments/objectives.py

The corpus is built first, as configs/novels_small.py says. About a quarter of an hour on one CPU core.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import novels_small

TITLE = "Objectives at one size and 1e11 FLOPs, on English novels"

BUDGET, SIZE = 1e11, "8k"
SEEDS = (0, 1, 2)
# Each with its peak learning rate, the best of three by `mdlm-jax sweep tune` (results/objectives/learning_rates.json).
OBJECTIVES = (
    ({"name": "ar"}, 2e-2),
    ({"name": "masked"}, 5e-3),
    ({"name": "masked_plain"}, 1e-2),
    ({"name": "d3pm", "process": "absorbing"}, 1e-2),
    ({"name": "d3pm", "process": "uniform"}, 1e-2),
    ({"name": "sedd", "process": "absorbing", "score": "scaled"}, 1e-2),
    ({"name": "sedd", "process": "uniform"}, 1e-2),
    ({"name": "masked", "block_size": 4}, 5e-3),
    ({"name": "masked", "block_size": 16}, 5e-3),
)


def grid() -> list[ConfigDict]:
    configs = []
    for objective, rate in OBJECTIVES:
        for seed in SEEDS:
            config = novels_small.get_config()
            config.objective.update(objective)
            config.budget = BUDGET
            config.model.size = SIZE
            config.optim.lr = rate
            config.seed = seed
            configs.append(config)
    return configs
