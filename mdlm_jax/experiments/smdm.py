"""SMDM's scaling study (arXiv 2410.18514, section 3): AR against masked diffusion, 30 sizes by five budgets.

mdlm-jax data build --out slimpajama --source text --path 'SlimPajama/*.jsonl' --tokenizer llama2.json
mdlm-jax sweep run experiments/smdm.py

600 runs, half with the paper's learning rate and half with its code's, 2.4e22 FLOPs by 6 N D (N without embeddings),
3.5e22 by the exact count: a cluster's work.
Expected (read off the paper's figure): optimal losses of 2.846 (AR) and 3.374 (masked) nats at 6e18 FLOPs, 2.378 and
2.830 at 1e20; exponents of the loss -0.064 and -0.063; masked needs 16 times the compute of AR for the same loss, at
half its parameters.
"""

from ml_collections import ConfigDict

from mdlm_jax.config import combinations
from mdlm_jax.configs import smdm
from mdlm_jax.costs.rules import SMDM_LEARNING_RATES
from mdlm_jax.models.ladder import SMDM

TITLE = "SMDM: AR against masked diffusion from 6e18 to 1e20 FLOPs"

OBJECTIVES = ("ar", "masked")
BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20)  # by 6 N D, N without embeddings


def grid() -> list[ConfigDict]:
    return combinations(
        smdm.get_config(),
        {
            "objective.name": OBJECTIVES,
            "budget": BUDGETS,
            "model.size": SMDM,
            "optim.lr": SMDM_LEARNING_RATES.values(),
        },
    )
