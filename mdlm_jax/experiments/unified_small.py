"""Text and images in one row: masked diffusion against AR on captioned shapes. 4 budgets, 5 sizes, 2 seeds: 80 runs.

mdlm-jax sweep run experiments/unified_small.py --workers 1
python experiments/unified_small.py runs/unified_small    # nats of text and of images apart

Both answer in every direction: `unified` trains the joint and both conditionals, AR reads half of its rows image first.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import unified_shapes

TITLE = "Loss against compute on captioned shapes: AR in both orders and masked diffusion"

# Exact FLOPs -> sizes around the optimum, the same for both.
GRID = {
    2e9: ("0.53k", "1k", "2k", "4.7k", "8k"),
    6e9: ("1k", "2k", "4.7k", "8k", "19k"),
    1.8e10: ("2k", "4.7k", "8k", "19k", "33k"),
    5.4e10: ("2k", "4.7k", "8k", "19k", "33k"),
}
SEEDS = (0, 1)
LEARNING_RATE = 2e-2  # peak, at the smallest budget


def learning_rate(budget: float) -> float:
    """Carried up by DeepSeek's law, C^-0.125 (arXiv 2401.02954, equation 1)."""
    return float(f"{LEARNING_RATE * (budget / min(GRID)) ** -0.125:.3g}")


def grid() -> list[ConfigDict]:
    configs = []
    for objective in ("ar", "unified"):
        for budget, sizes in GRID.items():
            for size in sizes:
                for seed in SEEDS:
                    config = unified_shapes.get_config()
                    config.objective.name = objective
                    if objective == "ar":
                        config.objective.tasks = "joint=1"  # read by `unified` alone
                        config.objective.order = "flipped"
                    config.budget, config.steps = budget, 1000  # the budget sets the steps
                    config.model.size = size
                    config.optim.lr = learning_rate(budget)
                    config.optim.ema = 0.0
                    config.seed = seed
                    config.train.batch_size = 32
                    config.train.scan_layers = True
                    config.train.log_every = 1000
                    configs.append(config)
    return configs
