"""Sorts the positions that have a loss before those that have none, so that the head can stop where the loss ends.

About half of the positions of a masked view have no loss. How many have one is known only at run time, so a loop over
chunks ends after the last of them: no position is dropped, and no space is reserved for a largest number.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.objectives.base import View


class ScoredFirst(NamedTuple):
    """The positions of n views in one row: those whose weight is not 0 come first."""

    hidden: Float[Array, "1 positions d"]
    view: View  # fields [1 positions ..], for a loss of single positions
    count: Int[Array, ""]  # positions whose weight is not 0
    order: Int[Array, "1 positions"]  # the original index of each


def scored_first(hidden: Float[Array, "n M d"], view: View) -> ScoredFirst:
    """Sorts the positions of n views that are on one device.

    Args:
        hidden: The input of the head at the M positions that have targets.
        view: The views.
    """
    shape, unscored = view.weight.shape, view.weight.reshape(1, -1) == 0
    order = jnp.argsort(unscored, axis=1, stable=True)

    def sorted_positions(field):
        if field.ndim == 1:  # one value for a view: the loss of a position does not read it
            return field
        field = jnp.broadcast_to(field[:, : shape[1]], (*shape, *field.shape[2:]))
        return _take(field.reshape(*order.shape, *field.shape[2:]), order)

    return ScoredFirst(sorted_positions(hidden), jax.tree.map(sorted_positions, view), (~unscored).sum(), order)


def to_views(each: Float[Array, "1 positions"], order: Int[Array, "1 positions"], shape: tuple[int, int]) -> Array:
    """The inverse: values of the sorted positions, back in the order of the views, [n M].

    Args:
        each: A value for each sorted position.
        order: As in `ScoredFirst`.
        shape: (n, M).
    """
    return _take(each, jnp.argsort(order, axis=1)).reshape(shape)


def _take(x, order):
    # `order` is a permutation, so the gradient is a permutation and not a sum
    return jax.vmap(lambda row, positions: row.at[positions].get(unique_indices=True, mode="promise_in_bounds"))(
        x, order
    )
