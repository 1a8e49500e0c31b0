"""Published rules for learning rate, batch and warm-up by size and budget, for experiments to call by name.

Batches are in tokens, C in FLOPs, N in parameters without embeddings, D in tokens of training. All were fitted with
AdamW on networks far larger than a laptop's: below their range they are a first guess for `mdlm-jax sweep tune`.
"""

import math

# SMDM (arXiv 2410.18514): one rate and one batch for all sizes and budgets. The paper and its code differ.
SMDM_LEARNING_RATES = {"paper": 4e-4, "code": 2e-4}  # falls to a tenth
SMDM_BATCH_ROWS = 256  # of 2,048 tokens


def smdm_warmup(steps: int) -> int:
    """Steps of linear warm-up: a hundredth, and at least 100 (its `pretrain/train_mdm.py`)."""
    return max(100, steps // 100)


def deepseek_learning_rate(flops: float) -> float:
    """0.3118 C^-0.125 with C = 6 N D + attention (arXiv 2401.02954, equation 1; 1e17 to 2e20 FLOPs)."""
    return 0.3118 * flops**-0.125


def deepseek_batch(flops: float) -> float:
    """0.2920 C^0.3271 tokens, with C = 6 N D + attention (arXiv 2401.02954, equation 1; 1e17 to 2e20 FLOPs)."""
    return 0.2920 * flops**0.3271


def step_law_learning_rate(parameters: float, tokens: float) -> float:
    """1.79 N^-0.713 D^0.307 (Step Law, arXiv 2503.04715; 60M to 1B parameters, 2e9 to 1e11 tokens)."""
    return 1.79 * parameters**-0.713 * tokens**0.307


def step_law_batch(tokens: float) -> float:
    """0.58 D^0.571 tokens (Step Law, arXiv 2503.04715)."""
    return 0.58 * tokens**0.571


# von Ruette (arXiv 2512.10858, published fits): ln B* = p ln D + c and ln eta* = p ln B + c, by kind of noise.
VON_RUETTE_BATCH = {"masked": (0.77592345, -4.44879491), "uniform": (0.87870275, -6.79178375)}
VON_RUETTE_RATE = {"masked": 0.3294684, "uniform": 0.35544221}


def von_ruette_batch(tokens: float, noise: str = "masked") -> float:
    """Optimal batch in tokens of a diffusion model, by its noise, nearly linear in D (arXiv 2512.10858)."""
    power, constant = VON_RUETTE_BATCH[noise]
    return math.exp(constant) * tokens**power


def von_ruette_learning_rate(tuned: float, tuned_batch: float, batch: float, noise: str = "masked") -> float:
    """A rate tuned at one batch, carried to another: eta ~ B^0.33 along optimal batches (arXiv 2512.10858).

    Only the power is taken over: the published constant belongs to CompleteP's parametrisation.
    """
    return tuned * (batch / tuned_batch) ** VON_RUETTE_RATE[noise]


def rows(batch_tokens: float, sequence_length: int, multiple: int = 1) -> int:
    """A batch in whole sequences: the nearest multiple of `multiple`, such as the number of devices; one at least."""
    return max(round(batch_tokens / sequence_length / multiple), 1) * multiple
