"""A density of noise levels that is learned from the running loss of each level.

An estimate of an integral by importance sampling has the least variance where a level is drawn in proportion to the
root of the mean of its squared term. The terms are the nats of a row, which stand for its gradient: the squared norm of
each row's own gradient would take a backward pass for every row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.objectives.densities import Bins, Learned

BINS = 32
PRIOR = 4.0  # rows with the mean of all levels that each bin begins with


class Levels(NamedTuple):
    """What is remembered of each of BINS ranges of noise levels: sums over steps, of which old ones fade."""

    squares: Float[Array, "bins"]  # of the nats of rows
    counts: Float[Array, "bins"]  # of rows


def no_levels() -> Levels:
    """Before the first step; its density is uniform."""
    return Levels(jnp.zeros(BINS), jnp.zeros(BINS))


def bins_of(levels: Levels, learned: Learned) -> Bins:
    """The density that is learned so far."""
    overall = levels.squares.sum() / jnp.maximum(levels.counts.sum(), 1)
    root = jnp.sqrt((levels.squares + PRIOR * overall) / (levels.counts + PRIOR))
    share = jnp.where(overall > 0, root / jnp.maximum(root.sum(), jnp.finfo(root.dtype).tiny), 1 / BINS)
    mass = (1 - learned.floor) * share + learned.floor / BINS
    ends = jnp.concatenate([jnp.zeros(1), jnp.cumsum(mass)[:-1], jnp.ones(1)])
    # slopes of the rounded distribution function, so that rounding makes no bias
    return Bins(jnp.asarray(np.arange(BINS, dtype=np.float32) / BINS), ends, 1 / BINS / jnp.diff(ends))


def sums_by_level(nats: Float[Array, "B"], number: Int[Array, "B"]) -> Levels:
    """The sums of one step; rows whose nats are not finite are left out.

    Args:
        nats: Of each row, without the weight of its density and without constants.
        number: The bin of each row.
    """
    counted = jnp.isfinite(nats)
    in_bin = jax.nn.one_hot(number, BINS) * counted[:, None]
    return Levels(jnp.where(counted, nats, 0) ** 2 @ in_bin, in_bin.sum(axis=0))


def remembered(levels: Levels, new: Levels, learned: Learned) -> Levels:
    """The sums after a step."""
    return jax.tree.map(lambda old, one: (1 - learned.rate) * old + one, levels, new)
