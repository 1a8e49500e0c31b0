"""SMDM's design (arXiv 2410.18514, section 3) at a laptop's size: AR against masked diffusion on bytes, 200 runs.

mdlm-jax sweep plan experiments/smdm_small.py --hardware cpu:2 --mfu 0.2
mdlm-jax sweep run experiments/smdm_small.py

As in the paper, budgets are in the ratio 6 : 10 : 30 : 60 : 100, and one learning rate serves all sizes and budgets
(two rates are tried, one twice the other). Differences: bytes of the Python standard library in rows of 32, budgets
by the exact count, and ten sizes.
"""

from ml_collections import ConfigDict

from mdlm_jax.config import combinations
from mdlm_jax.configs import quickstart

TITLE = "AR against masked diffusion from 6e9 to 1e11 FLOPs, one learning rate for all"

BUDGETS = (6e9, 1e10, 3e10, 6e10, 1e11)
SIZES = ("0.53k", "1k", "2k", "4.7k", "8k", "12k", "19k", "33k", "49k", "74k")
LEARNING_RATES = (2e-2, 1e-2)


def grid() -> list[ConfigDict]:
    return combinations(
        quickstart.get_config(),
        {"objective.name": ("ar", "masked"), "budget": BUDGETS, "model.size": SIZES, "optim.lr": LEARNING_RATES},
    )
