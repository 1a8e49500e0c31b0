"""Does masked diffusion need more compute than AR for the same loss, and how much? A sweep small enough for a laptop.

mdlm-jax sweep run experiments/quickstart.py

The Python standard library's own source, byte by byte, in rows of 32: under ten minutes on two cores.
"""

from ml_collections import ConfigDict

from configs import quickstart

TITLE = "Loss against compute: AR, any-order AR and masked diffusion on two cores"

# Exact FLOPs. AR reaches the losses of the others with a fraction of them, so its budgets are smaller: multipliers
# exist only where losses overlap.
BUDGETS = {
    "ar": (2e9, 8e9, 3.2e10),
    "any_order": (4e10, 1.6e11, 6.4e11),
    "masked": (4e10, 1.6e11, 6.4e11),
}
# A factor of about 30 around the optimum of each budget.
SIZES = {
    "ar": ("0.53k", "2k", "4.7k", "8k", "19k"),
    "any_order": ("1k", "4k", "12k", "33k"),
    "masked": ("1k", "4k", "12k", "33k"),
}
# Peak learning rate, for all sizes and budgets of an objective.
LEARNING_RATES = {"ar": 3e-2, "any_order": 1e-2, "masked": 1e-2}


def grid() -> list[ConfigDict]:
    configs = []
    for objective, budgets in BUDGETS.items():
        for budget in budgets:
            for size in SIZES[objective]:
                config = quickstart.get_config()
                config.objective.name = objective
                config.budget = budget
                config.model.size = size
                config.optim.lr = LEARNING_RATES[objective]
                configs.append(config)
    return configs
