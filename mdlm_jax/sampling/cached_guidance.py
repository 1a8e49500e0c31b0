"""Guidance whose evaluation without the prompt is reused: dLLM-Cache (arXiv 2506.06295).

The hidden states with a row's prompt and without it change together, so their difference changes little from step to
step. At fixed intervals a row is read both ways; in the other steps with its prompt alone, and the difference stays.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.models.feature_cache import Features

ALWAYS = 5  # the first steps of a row, in which it is read both ways whatever the interval, as in the public code


class CachedGuidance(NamedTuple):
    """What guidance keeps from step to step. Both caches of features count their own evaluations."""

    given: Features  # of rows with their prompt
    without: Features  # of rows with masks in its place
    difference: Float[Array, "B N d"]  # hidden states with the prompt minus those without it
    interval: Int[Array, ""]  # steps from one computation of the difference to the next


def with_active(cache: Features | CachedGuidance, active: Bool[Array, "B"]) -> Features | CachedGuidance:
    """The cache for a step that computes these rows only."""
    if isinstance(cache, Features):
        return cache._replace(active=active)
    return cache._replace(given=cache.given._replace(active=active))


def read_guided(
    evaluate: Callable[[Int[Array, "B N"], Features], tuple[Float[Array, "B N d"], Features]],
    given: Int[Array, "B N"],
    without: Int[Array, "B N"],
    cache: CachedGuidance,
) -> tuple[Float[Array, "B N d"], Float[Array, "B N d"], CachedGuidance]:
    """One step: hidden states of the rows with their prompt, and how they differ from those without it.

    Args:
        evaluate: Reads whole rows.
        given: The rows with their prompt.
        without: The rows with masks in its place.
        cache: What earlier steps left.

    Returns:
        The hidden states, the difference and the cache for the next step.
    """
    step = cache.given.step
    due = cache.given.active & ((step % cache.interval == 0) | (step < ALWAYS))
    hidden, features = evaluate(given, cache.given)

    def again():
        other, kept = evaluate(without, cache.without._replace(active=due))
        return jnp.where(due[:, None, None], (hidden - other).astype(jnp.float32), cache.difference), kept

    difference, kept = jax.lax.cond(due.any(), again, lambda: (cache.difference, cache.without))
    return hidden, difference, cache._replace(given=features, without=kept, difference=difference)
