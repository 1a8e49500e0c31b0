"""What counts as a loss spike. The rule is part of the train step, so every process and every restart agrees on it."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

WINDOW = 1000  # losses remembered
LEAST = 100  # losses needed before any loss counts as a spike


def no_history() -> Float[Array, "window"]:
    """The history before the first step: NaN stands for no loss."""
    return jnp.full(WINDOW, jnp.nan)


def remember(history: Float[Array, "window"], step: Int[Array, ""], loss: Float[Array, ""]) -> Float[Array, "window"]:
    """Replaces the oldest loss in the history.

    A spike is remembered too: if the loss stays high, it soon stops counting as a spike.

    Args:
        history: The last losses.
        step: The step, from 0.
        loss: Its loss, in nats per token. A loss that is not finite leaves the history unchanged.
    """
    position = step % history.shape[0]
    return history.at[position].set(jnp.where(jnp.isfinite(loss), loss, history[position]))


def is_spike(history: Float[Array, "window"], loss: Float[Array, ""], deviations: float) -> Bool[Array, ""]:
    """Whether a loss is at least `deviations` standard deviations above the mean of the last 1,000 losses.

    With 7 it is the upper side of the spike score of OLMo 2: seven deviations from the rolling mean of 1,000 values.

    Reference: OLMo 2, arXiv 2501.00656.
    """
    enough = jnp.isfinite(history).sum() >= LEAST
    return enough & (loss >= jnp.nanmean(history) + deviations * jnp.nanstd(history))
