"""When data is what runs out: AR against masked diffusion over many epochs of few tokens (arXiv 2507.15857).

mdlm-jax data build --out slimpajama --source text --path 'SlimPajama/*.jsonl' --tokenizer llama2.json
mdlm-jax sweep plan experiments/repeated.py --hardware h200:8

150 runs: 25M, 50M and 100M unique tokens, 19M to 629M parameters, 1 to 512 epochs. Expected from the paper: AR stops
gaining from repetition after a few epochs (R_D* near 31) and masked diffusion after hundreds (near 500), so that
their losses cross; at 100M tokens the best are 3.71 and 3.55 nats.
"""

from ml_collections import ConfigDict

from mdlm_jax.config import with_objective
from mdlm_jax.configs import smdm
from mdlm_jax.costs.rules import step_law_learning_rate

TITLE = "AR against masked diffusion over 1 to 512 epochs of 25M to 100M tokens"

UNIQUE = (25_000_000, 50_000_000, 100_000_000)
SIZES = {"19M": 18.9e6, "66M": 65.5e6, "170M": 169.9e6, "336M": 335.6e6, "629M": 629.2e6}  # N without embeddings
EPOCHS = (1, 8, 32, 128, 512)
BATCH_ROWS = 64  # of 2,048 tokens: an epoch of the smallest set is then 190 steps


def grid() -> list[ConfigDict]:
    configs = []
    for objective in ("ar", "masked"):
        for unique in UNIQUE:
            for size, parameters in SIZES.items():
                for epochs in EPOCHS:
                    config = with_objective(smdm.get_config(), objective)
                    config.budget, config.budget_counter = 0.0, "exact"
                    config.data.unique_tokens = unique
                    config.train.batch_size = BATCH_ROWS
                    config.steps = unique * epochs // (BATCH_ROWS * config.data.sequence_length)
                    config.model.size = size
                    # by the tokens of one pass: the rule knows of no repetition
                    config.optim.lr = float(f"{step_law_learning_rate(parameters, float(unique)):.3g}")
                    configs.append(config)
    return configs
