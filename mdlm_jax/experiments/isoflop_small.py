"""Compute-optimal AR, any-order AR and masked diffusion on English novels: 4 budgets, 5 or 6 sizes, 2 seeds, 124 runs.

mdlm-jax sweep run experiments/isoflop_small.py

The corpus is built first, as configs/novels_small.py says. About an hour on two CPU cores.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import novels_small

TITLE = "Loss against compute on English novels: AR, any-order AR and masked diffusion"

# Exact FLOPs -> sizes around the optimum. AR reaches the losses of the others with a fraction of their compute, so its
# budgets are smaller: a multiplier exists only where losses overlap.
DIFFUSION = {
    6e10: ("0.53k", "2k", "4.7k", "8k", "19k"),
    2e11: ("2k", "4.7k", "8k", "19k", "33k", "74k"),  # with five sizes the noise hid the minimum
    6e11: ("2k", "4.7k", "8k", "19k", "33k"),
    2e12: ("4.7k", "8k", "19k", "33k", "74k"),
}
GRID = {
    "ar": {
        4e9: ("0.53k", "1k", "2k", "4.7k", "8k"),
        1.3e10: ("0.53k", "2k", "4.7k", "8k", "19k"),
        4e10: ("2k", "4.7k", "8k", "19k", "33k"),
        1.3e11: ("2k", "4.7k", "8k", "19k", "33k"),
    },
    "any_order": DIFFUSION,
    "masked": DIFFUSION,
}
BATCH_ROWS = {"ar": 8, "any_order": 16, "masked": 16}  # steps are scarce where budgets are small
SEEDS = (0, 1)
# Peak learning rate at the smallest budget, for all sizes: `mdlm-jax sweep tune` found none of half and twice the rate
# better by more than 1.7 standard errors (results/isoflop_small/learning_rates.json).
LEARNING_RATES = {"ar": 4e-2, "any_order": 1e-2, "masked": 1e-2}


def learning_rate(objective: str, budget: float) -> float:
    """Carried up by DeepSeek's law, C^-0.125 (arXiv 2401.02954, equation 1)."""
    return float(f"{LEARNING_RATES[objective] * (budget / min(GRID[objective])) ** -0.125:.3g}")


def grid() -> list[ConfigDict]:
    configs = []
    for objective, budgets in GRID.items():
        for budget, sizes in budgets.items():
            for size in sizes:
                for seed in SEEDS:
                    config = novels_small.get_config()
                    config.objective.name = objective
                    config.train.batch_size = BATCH_ROWS[objective]
                    config.budget = budget
                    config.model.size = size
                    config.optim.lr = learning_rate(objective, budget)
                    config.seed = seed
                    configs.append(config)
    return configs
