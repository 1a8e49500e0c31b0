"""Left to right: -log p(x) by the chain rule."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.objectives.base import Objective, View, causal, cross_entropy, loss_mask


def shift_right(tokens, segments, start: int):
    """The token before each token in its own document; `start` for the first."""
    previous = jnp.roll(tokens, 1).at[0].set(start)
    first = segments != jnp.roll(segments, 1).at[0].set(0)
    return jnp.where(first, start, previous)


def ar(mask_id: int) -> Objective:
    """Reads [mask, x_1 .. x_{L-1}] and predicts all L tokens, the same that `masked` predicts. Exact."""

    def view(objective_params, key, example: Example, u) -> View:
        positions = jnp.arange(example.tokens.shape[-1])[:, None]
        return one_view(
            tokens=shift_right(example.tokens, example.segments, mask_id),
            targets=example.tokens,
            weight=loss_mask(example).astype(jnp.float32),
            t=jnp.zeros(1),
            positions=positions,
            key_positions=positions,
            segments=example.segments,
            constant=jnp.zeros(()),
        )

    return Objective(view, cross_entropy, causal, bound="exact", estimator="chain rule")


def ar_without_start(mask_id: int) -> Objective:
    """Reads x_1 .. x_L and predicts x_2 .. x_{L+1}: SMDM's block of 2048 + 1 tokens.

    It is `ar` without its first position: the first token of a row is context only, so it belongs to the prompt mask.
    Where the first token of a later document in the row does so too, no token of that document attends to a start.

    Reference: SMDM, arXiv 2410.18514, `train_ar.py`.
    """
    whole = ar(mask_id)

    def view(objective_params, key, example: Example, u) -> View:
        starts = example.prompt_mask & (example.segments != jnp.roll(example.segments, 1).at[0].set(0))
        seen = whole.view(objective_params, key, example, u)
        seen = seen._replace(segments=jnp.where(starts, 0, seen.segments))
        return jax.tree.map(lambda field: field[:, 1:] if field.ndim > 1 and field.shape[1] > 1 else field, seen)

    return whole._replace(view=view)


def one_view(**fields) -> View:
    """A View with the leading axis K = 1."""
    return View(**{name: value[None] for name, value in fields.items()})
