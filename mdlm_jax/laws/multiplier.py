"""Compute multipliers: the compute that one objective needs over that of another at equal loss."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.laws.optima import MAX_LOST, Optima
from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.resampling import interval


class Multiplier(NamedTuple):
    """Compute of the other objective over that of the reference at each loss that both reach."""

    loss: Float[np.ndarray, "losses"]
    value: Float[np.ndarray, "losses"]
    low: Float[np.ndarray, "losses"]  # 95% interval
    high: Float[np.ndarray, "losses"]
    mean: float  # geometric mean over the losses
    mean_low: float
    mean_high: float


def compute_multiplier(reference: Optima, other: Optima) -> Multiplier | Refusal:
    """FLOPs of `other` over FLOPs of `reference` for the same loss, each along its fitted L*(C).

    The losses are those that both reach inside their budgets. It is refused if these do not overlap, if a loss does not
    clearly fall with compute, if nothing shows the noise, or if the two count FLOPs in different ways.
    """
    if reference.counter != other.counter:
        return Refusal(f"the budgets are counted in {reference.counter} and in {other.counter}")
    samples = []
    for name, best in (("reference", reference), ("other", other)):
        if isinstance(best.sample, Refusal):
            return Refusal(f"{name}: {best.sample.reason}")
        if best.loss_law.exponent >= 0 or np.mean(~(best.sample.loss_exponent < 0)) > MAX_LOST:
            return Refusal(f"{name}: the loss does not clearly fall with compute")
        samples.append(best.sample)
    laws = (reference.loss_law, other.loss_law)
    lows = [law.coefficient * law.high**law.exponent for law in laws]
    highs = [law.coefficient * law.low**law.exponent for law in laws]
    bottom, top = max(lows), min(highs)
    if bottom >= top:
        ranges = [f"{low:.3f} to {high:.3f}" for low, high in zip(lows, highs, strict=True)]
        return Refusal(f"the losses do not overlap: {ranges[0]} nats for the reference, {ranges[1]} for the other")
    log_loss = np.linspace(np.log(bottom), np.log(top), 33)
    log_compute = [(log_loss - np.log(law.coefficient)) / law.exponent for law in laws]
    sampled = [
        (log_loss - sample.loss_log_coefficient[:, None])
        / np.where(sample.loss_exponent < 0, sample.loss_exponent, np.nan)[:, None]
        for sample in samples
    ]
    log_ratio, log_ratios = log_compute[1] - log_compute[0], sampled[1] - sampled[0]
    low, high = interval(log_ratios)
    mean = (log_ratio.mean(), *interval(log_ratios.mean(axis=1)))
    return Multiplier(
        *(np.exp(values) for values in (log_loss, log_ratio, low, high)), *(float(np.exp(value)) for value in mean)
    )
