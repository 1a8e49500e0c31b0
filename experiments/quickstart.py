"""Does masked diffusion need more compute than AR for the same loss, and how much? A sweep small enough for a laptop.

mdlm-jax sweep run experiments/quickstart.py

36 runs of 4k to 111k parameters on the Python standard library's own source, byte by byte: under ten minutes on two
cores. Expected: the losses fall with compute along one power law for each objective, masked needs several times
the compute of AR, and any_order and masked, which have one expectation, differ by a factor whose interval covers 1.
"""

from ml_collections import ConfigDict

from configs import quickstart
from mdlm_jax.scaling.flops import num_parameters
from mdlm_jax.scaling.ladder import SMALL

TITLE = "Loss against compute: AR, any-order AR and masked diffusion on two cores"

# Exact FLOPs. AR reaches the losses of the others with less, so its budgets are smaller: the losses must overlap.
BUDGETS = {
    "ar": (3e10, 1e11, 3e11),
    "any_order": (1e11, 3e11, 1e12),
    "masked": (1e11, 3e11, 1e12),
}
SIZES = {
    "ar": ("4k", "12k", "33k", "111k"),
    "any_order": ("4k", "12k", "33k", "111k"),
    "masked": ("4k", "12k", "33k", "111k"),
}
# coefficient and exponent of the rule, as in learning_rates.json of `mdlm-jax sweep tune experiments/quickstart.py`
LEARNING_RATES = {"ar": (0.08, -0.2), "any_order": (0.08, -0.2), "masked": (0.08, -0.2)}


def learning_rate(objective: str, size: str) -> float:
    """Peak rate: a power of N without embeddings, the same at all budgets."""
    coefficient, exponent = LEARNING_RATES[objective]
    return float(f"{coefficient * num_parameters(SMALL[size]).non_embedding ** exponent:.3g}")


def grid() -> list[ConfigDict]:
    configs = []
    for objective, budgets in BUDGETS.items():
        for budget in budgets:
            for size in SIZES[objective]:
                config = quickstart.get_config()
                config.objective.name = objective
                config.budget = budget
                config.model.size = size
                config.optim.lr = learning_rate(objective, size)
                configs.append(config)
    return configs
