"""The positions that are scored before those that are not, so that the head can stop where they end.

Half of a masked view has no nats. How many positions have some is not known before it runs: a loop over chunks of them
ends after the last, so none is ever dropped and nothing is reserved for the most there could be.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.objectives.base import View


class ScoredFirst(NamedTuple):
    """The positions of n views in one row, those with a weight first."""

    hidden: Float[Array, "1 positions d"]
    view: View  # fields [1 positions ..], as a loss of single positions reads them
    count: Int[Array, ""]  # positions with a weight
    order: Int[Array, "1 positions"]  # where each came from


def scored_first(hidden: Float[Array, "n M d"], view: View) -> ScoredFirst:
    """Sorts the positions of views that lie on one device."""
    shape, unscored = view.weight.shape, view.weight.reshape(1, -1) == 0
    order = jnp.argsort(unscored, axis=1, stable=True)

    def sorted_positions(field):
        if field.ndim == 1:  # of whole views: no loss of a position reads it
            return field
        field = jnp.broadcast_to(field[:, : shape[1]], (*shape, *field.shape[2:]))
        return _take(field.reshape(*order.shape, *field.shape[2:]), order)

    return ScoredFirst(sorted_positions(hidden), jax.tree.map(sorted_positions, view), (~unscored).sum(), order)


def to_views(each: Float[Array, "1 positions"], order: Int[Array, "1 positions"], shape: tuple[int, int]) -> Array:
    """What belongs to the sorted positions back at [n M]."""
    return _take(each, jnp.argsort(order, axis=1)).reshape(shape)


def _take(x, order):
    # a permutation: its gradient is one too, not a sum
    return jax.vmap(lambda row, positions: row.at[positions].get(unique_indices=True, mode="promise_in_bounds"))(
        x, order
    )
