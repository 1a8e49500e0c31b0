"""Does another density of noise levels save training compute? One size, budgets up to 4 times apart. 54 runs.

arXiv 2605.13026 reports the validation likelihood of uniform levels in up to 4 times fewer steps on LM1B: here, a run
of the smallest budget would reach the loss that uniform levels reach at the largest.

mdlm-jax sweep run experiments/densities.py

The corpus is built first, as configs/novels_small.py says. About a quarter of an hour on one CPU core.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import novels_small

TITLE = "Densities of noise levels: masked diffusion, 8k parameters, on English novels"

BUDGETS, SIZE = (2.5e10, 5e10, 1e11), "8k"
SEEDS = (0, 1, 2)
# Each with its peak rate. `masked` trains on the likelihood bound, `masked_plain` on the mean over masked tokens.
OBJECTIVES = (("masked", 5e-3), ("masked_plain", 1e-2))
DENSITIES = ("", "bell:mean=0.5,width=0.2,floor=0.1", "clipped:low=0.3,high=0.8")


def grid() -> list[ConfigDict]:
    configs = []
    for name, rate in OBJECTIVES:
        for density in DENSITIES:
            for budget in BUDGETS:
                for seed in SEEDS:
                    config = novels_small.get_config()
                    config.objective.name = name
                    config.objective.density = density
                    config.budget = budget
                    config.model.size = SIZE
                    config.optim.lr = rate
                    config.seed = seed
                    configs.append(config)
    return configs
