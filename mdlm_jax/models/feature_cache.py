"""A cache of each layer's features across sampling steps: dLLM-Cache (arXiv 2506.06295).

A row is a prompt and a response. The cache keeps every layer's keys, values, attention output and MLP output from step
to step. At fixed intervals a layer recomputes the whole prompt or the whole response. In the other steps it recomputes
only the positions of the response whose values changed most. The first layer recomputes every position in every step,
because it reads the tokens.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

Positions = slice | Int[Array, "B R"] | None  # the R positions of each row to compute; None: all


class Layer(NamedTuple):
    """The cached features of one layer. With a leading axis, those of all layers."""

    keys: Float[Array, "*layers B N G d"] | None
    values: Float[Array, "*layers B N G d"] | None
    attention: Float[Array, "*layers B N width"] | None = None  # before the gate of adaLN, which changes with the step
    mlp: Float[Array, "*layers B N width"] | None = None


@jax.tree_util.register_static
class Reuse(NamedTuple):
    """The settings of the cache. They hold no arrays, because shapes depend on them."""

    prompt: int  # P: positions of the prompt; the response follows
    prompt_interval: int  # steps from one computation of the whole prompt to the next
    response_interval: int  # the same for the response
    updated: int  # positions of the response recomputed in the other steps


class Features(NamedTuple):
    """The cache of all layers."""

    layers: tuple[Layer, ...] | Layer
    step: Int[Array, "B"]  # network evaluations of each row so far
    active: Bool[Array, "B"]  # the rows that this step computes; the cache of the others does not change
    reuse: Reuse
    filled: Bool[Array, "B N"] | None = None  # which positions hold a token; None: all


class Due(NamedTuple):
    """Which parts of each row a step must recompute."""

    prompt: Bool[Array, "B"]
    response: Bool[Array, "B"]
    active: Bool[Array, "B"]  # these rows recompute at least the positions of the response that changed most


class Part(NamedTuple):
    """What a layer computes in a step. It computes for all rows what any row is due; each row keeps what it is due."""

    old: Layer  # the cached features
    reuse: Reuse | None  # None: no cache, compute everything
    prompt: bool  # True: all of the prompt; False: none of it
    response: bool  # True: all of the response; False: the positions that changed most
    due: Due | None  # None: no cache


WHOLE = Part(Layer(None, None), None, True, True, None)


def by_step(features: Features, index: Array | int, old: Layer, run: Callable[[Part], Any]) -> Any:
    """Runs a layer on the parts of the row that are due in this step.

    Args:
        features: The cache: step counts, active rows and intervals.
        index: The layer. Layer 0 computes everything in every step.
        old: The cached features of this layer.
        run: Runs the layer on a `Part`.

    Returns:
        What `run` returns.
    """
    reuse, first = features.reuse, index == 0
    prompt, response = (
        features.active & ((features.step % interval == 0) | first)
        for interval in (reuse.prompt_interval, reuse.response_interval)
    )
    due = Due(prompt, response, features.active)
    branches = [partial(run, Part(old, reuse, *whole, due)) for whole in product((False, True), repeat=2)]
    return jax.lax.switch(2 * prompt.any() + response.any(), branches)


def valued(part: Part) -> tuple[Positions, Bool[Array, "B R"] | None]:
    """The positions whose value vectors this step computes.

    With partial updates these include the whole response in every step: the new values show which positions changed.
    Without (`Reuse.updated` is 0) they include the response only when it is due.

    Returns:
        The positions, and bool[B R]: which of them each row keeps (None: all).
    """
    if part.reuse is None:
        return None, None
    first, positions = part.reuse.prompt, part.old.keys.shape[1]
    kept = _over(part.due.active if part.reuse.updated else part.due.response, positions - first)
    if not (part.reuse.updated or part.response):
        computed = first if part.prompt else 0
        return slice(0, computed), _over(part.due.prompt, computed)
    if not part.prompt:
        return slice(first, None), kept
    return None, jnp.concatenate([_over(part.due.prompt, first), kept], axis=1)


def changed(part: Part, values: Float[Array, "B N G d"]) -> tuple[Positions, Bool[Array, "B R"] | None]:
    """The positions for which this step computes everything except values.

    A row that is not due its whole response keeps the positions whose new value vectors have the smallest cosine
    similarity with the old ones (V-verify). They are sorted by |u - w|^2 = 2 - 2 cos of the unit vectors, because
    float32 resolves cosines near 1 poorly.

    Args:
        part: What the layer computes in this step.
        values: The new values, with cached ones where none were computed.

    Returns:
        The positions, and bool[B R]: which of them each row keeps (None: all).

    Reference: dLLM-Cache, arXiv 2506.06295.
    """
    if part.reuse is None:
        return None, None
    first = part.reuse.prompt

    def units(values):
        vectors = values[:, first:].reshape(*values[:, first:].shape[:2], -1).astype(jnp.float32)
        return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)

    distance = jnp.square(units(values) - units(part.old.values)).sum(axis=-1)
    most = jax.lax.top_k(distance, part.reuse.updated)[1]
    prompt, kept = _over(part.due.prompt, first), _over(part.due.active, part.reuse.updated)
    if part.response:
        kept = put(jnp.zeros(distance.shape, bool), kept, most) | part.due.response[:, None]
        return (None, jnp.concatenate([prompt, kept], axis=1)) if part.prompt else (slice(first, None), kept)
    if not part.prompt:
        return first + most, kept
    all_of_it = jnp.broadcast_to(jnp.arange(first), prompt.shape)
    return jnp.concatenate([all_of_it, first + most], axis=1), jnp.concatenate([prompt, kept], axis=1)


def _over(rows: Bool[Array, "B"], positions: int) -> Bool[Array, "B R"]:
    return jnp.broadcast_to(rows[:, None], (len(rows), positions))


def take(x: Shaped[Array, "#B N *d"] | None, positions: Positions) -> Shaped[Array, "#B R *d"] | None:
    """`x` at these positions; `x` itself where it is None."""
    if x is None or positions is None:
        return x
    if isinstance(positions, slice):
        return x[:, positions]
    return jax.vmap(lambda row, at: row[at])(jnp.broadcast_to(x, (len(positions), *x.shape[1:])), positions)


def put(
    old: Shaped[Array, "B N *d"] | None,
    new: Shaped[Array, "B R *d"],
    positions: Positions,
    kept: Bool[Array, "B R"] | None = None,
) -> Shaped[Array, "B N *d"]:
    """`old` with `new` written at these positions, where `kept` is True (None: everywhere)."""
    if kept is not None:
        new = jnp.where(kept.reshape(*kept.shape, *[1] * (new.ndim - 2)), new, take(old, positions))
    if positions is None:
        return new
    if isinstance(positions, slice):
        return old.at[:, positions].set(new)
    return jax.vmap(lambda row, new, at: row.at[at].set(new))(old, new, positions)
