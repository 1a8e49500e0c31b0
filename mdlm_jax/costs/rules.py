"""Published rules for learning rate, batch, warm-up and weight decay by size, budget and tokens, to call by name.

Batches are in tokens, C in FLOPs, N in parameters without embeddings, D in tokens of training. All were fitted with
AdamW on networks far larger than a laptop's: below their range they are a first guess for `mdlm-jax sweep tune`.
"""

import math
from typing import NamedTuple

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


class AdamSettings(NamedTuple):
    """What a rule of the batch changes in AdamW."""

    learning_rate: float
    beta_1: float
    beta_2: float
    epsilon: float
    weight_decay: float


def square_root_rule(tuned: AdamSettings, factor: float) -> AdamSettings:
    """Adam's settings, tuned at one batch, for a batch that is `factor` times as large (Malladi et al., 2205.10287).

    Both runs approximate one stochastic differential equation, in which a step is an amount of time in proportion to
    its rows: the same tokens then give the same weights. Weight decay, which the paper does not have, follows from
    that: learning rate times decay, the share by which a step shrinks the weights, is in proportion to the rows.

    Args:
        tuned: The settings of the smaller batch.
        factor: Batch over the tuned batch. It holds below the critical batch, where noise is most of a gradient.

    Raises:
        ValueError: The factor leaves no decay of a moment.
    """
    beta_1, beta_2 = (1 - factor * (1 - beta) for beta in (tuned.beta_1, tuned.beta_2))
    if not factor > 0 or min(beta_1, beta_2) < 0:
        raise ValueError(f"factor={factor}: the betas would be {beta_1:.3g} and {beta_2:.3g}, outside [0, 1)")
    root = math.sqrt(factor)
    return AdamSettings(tuned.learning_rate * root, beta_1, beta_2, tuned.epsilon / root, tuned.weight_decay * root)


def timescale(learning_rate: float, weight_decay: float, batch: float, tokens: float) -> float:
    """B / (eta lambda D), the share of a run over which AdamW's weights average its updates (arXiv 2405.13698).

    Args:
        learning_rate: The peak, eta.
        weight_decay: The decoupled decay, lambda.
        batch: B in tokens.
        tokens: D of the run.
    """
    return batch / (learning_rate * weight_decay * tokens)


def carried_timescale(tuned: float, tuned_tokens_per_parameter: float, tokens_per_parameter: float) -> float:
    """A timescale tuned at one D / N, carried to another: in proportion to (D / N)^-0.527 (arXiv 2505.13738).

    Only the power is taken over: the published constant belongs to the paper's muP and its definition of N. Two runs
    with the same D / N keep the timescale, as in arXiv 2405.13698.
    """
    return tuned * (tokens_per_parameter / tuned_tokens_per_parameter) ** -0.527


def weight_decay_of(timescale: float, learning_rate: float, batch: float, tokens: float) -> float:
    """The decay that gives a timescale: B / (eta timescale D), linear in the batch (arXiv 2505.13738)."""
    return batch / (learning_rate * timescale * tokens)


def critical_batch(variance: float, squared_norm: float, sequence_length: int) -> float:
    """The gradient noise scale in tokens, at which noise and gradient are equal (McCandlish et al., 1812.06162).

    Args:
        variance: Mean over steps of `gradient_variance` in metrics.jsonl, that of a row's gradient.
        squared_norm: Mean over the same steps of `gradient_squared_norm`. Means come before the ratio, which is biased
            for a single step.
        sequence_length: Tokens of a row.

    Raises:
        ValueError: The mean of the squared norm is not positive: too few steps to tell the gradient from its noise.
    """
    if not squared_norm > 0:
        raise ValueError(f"squared_norm={squared_norm}; accepted: above 0, the mean over more steps")
    return variance / squared_norm * sequence_length


def tokens_over_least(batch: float, critical: float) -> float:
    """Tokens to a loss over those of the smallest batch, 1 + B / B_crit; twice as many at the critical batch.

    The steps over those of the largest batch are 1 + B_crit / B (arXiv 1812.06162, equation 5.1).
    """
    return 1 + batch / critical


def rows(batch_tokens: float, sequence_length: int, multiple: int = 1) -> int:
    """A batch in whole sequences: the nearest multiple of `multiple`, such as the number of devices; one at least."""
    return max(round(batch_tokens / sequence_length / multiple), 1) * multiple
