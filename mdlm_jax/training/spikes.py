"""What a loss spike is: one rule, part of the train step, so that every process and every restart agrees on it."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

WINDOW = 1000
LEAST = 100  # losses without which there is no telling


def no_history() -> Float[Array, "window"]:
    """The losses before the first step: NaN stands for none."""
    return jnp.full(WINDOW, jnp.nan)


def remember(history: Float[Array, "window"], step: Int[Array, ""], loss: Float[Array, ""]) -> Float[Array, "window"]:
    """The history with the loss (nats per token) of `step` in place of the oldest; one that is not finite is left out.

    A spike is remembered too: what comes to stay is soon a spike no more.
    """
    position = step % history.shape[0]
    return history.at[position].set(jnp.where(jnp.isfinite(loss), loss, history[position]))


def is_spike(history: Float[Array, "window"], loss: Float[Array, ""], deviations: float) -> Bool[Array, ""]:
    """Whether a loss is at least so many standard deviations above the mean of the last 1,000.

    With 7, upwards of OLMo 2's spike score (arXiv 2501.00656): seven deviations from the rolling mean of 1,000 values.
    """
    enough = jnp.isfinite(history).sum() >= LEAST
    return enough & (loss >= jnp.nanmean(history) + deviations * jnp.nanstd(history))
