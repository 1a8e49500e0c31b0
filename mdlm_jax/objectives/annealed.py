"""Attention that opens from causal to full while a causal network learns to see the whole row: DiffuLLaMA."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.objectives.base import Objective, View

DRAWN = 2**31  # folded into an example's key; objectives split that key, which folds small numbers into it


def annealed(objective: Objective, share: Float[Array, ""] | float) -> Objective:
    """The objective with this share of the later positions in sight: each pair of a position and a later one is drawn.

    A pair is drawn once for all layers and heads of a view. With a share of 0 attention is causal, with 1 full.

    Args:
        objective: One that sees the whole row.
        share: Probability that a position may attend to a later one.

    Reference: DiffuLLaMA, arXiv 2410.17891.
    """

    def view(objective_params: Any, key: Array, example: Example, u: Float[Array, ""]) -> View:
        seen = objective.view(objective_params, key, example, u)
        positions = jnp.arange(seen.tokens.shape[-1])
        drawn = jax.random.uniform(jax.random.fold_in(key, DRAWN), (*seen.tokens.shape, len(positions))) < share
        return seen._replace(opened=drawn | (positions <= positions[:, None]))

    return objective._replace(view=view)


def share_at(step: Int[Array, ""] | int, steps: int) -> Float[Array, ""]:
    """The share of later positions in sight: (step + 1) / steps, at most 1.

    Args:
        step: Steps taken.
        steps: Steps until attention is full.

    >>> float(share_at(0, 4)), float(share_at(9, 4))
    (0.25, 1.0)
    """
    return jnp.minimum((step + 1) / steps, 1.0)
