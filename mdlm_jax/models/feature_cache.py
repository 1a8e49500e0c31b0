"""Features of earlier steps instead of new ones: dLLM-Cache (arXiv 2506.06295).

A row is a prompt and a response. Every layer's keys, values, and what its attention and its MLP put out are kept from
step to step: in some steps a region is computed anew, in the others only those positions of the response whose values
changed most. The first layer computes all positions in every step: it reads the tokens.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

Positions = slice | Int[Array, "B R"] | None  # None: all


class Layer(NamedTuple):
    """What is kept of a layer, or, with one more axis, of all of them."""

    keys: Float[Array, "*layers B N G d"] | None
    values: Float[Array, "*layers B N G d"] | None
    attention: Float[Array, "*layers B N width"] | None = None  # before the gate of adaLN, which belongs to the step
    mlp: Float[Array, "*layers B N width"] | None = None


@jax.tree_util.register_static
class Reuse(NamedTuple):
    """What is fixed from the first step to the last: it has no arrays, and shapes depend on it."""

    prompt: int  # P: positions of the prompt; what follows is the response
    prompt_interval: int  # every so many steps the prompt is computed anew
    response_interval: int
    updated: int  # positions of the response that are computed anew in the other steps


class Features(NamedTuple):
    """What is kept of all layers."""

    layers: tuple[Layer, ...] | Layer
    step: Int[Array, "B"]  # a row's evaluations so far
    active: Bool[Array, "B"]  # the rows that are read; the others stay as they are
    reuse: Reuse
    filled: Bool[Array, "B N"] | None = None  # which positions hold a token at all; None: all


class Due(NamedTuple):
    """What each row needs computed in a step."""

    prompt: Bool[Array, "B"]
    response: Bool[Array, "B"]
    active: Bool[Array, "B"]  # the positions of the response that changed most, at least


class Part(NamedTuple):
    """What a layer computes in a step: for all rows what any of them is due, of which a row keeps what it is due."""

    old: Layer
    reuse: Reuse | None
    prompt: bool  # all of the prompt, or none of it
    response: bool  # all of the response, or the positions that changed most
    due: Due | None


WHOLE = Part(Layer(None, None), None, True, True, None)


def by_step(features: Features, index: Array | int, old: Layer, run: Callable[[Part], Any]) -> Any:
    """`run` of what the layer `index` computes in this step, of which `old` is kept."""
    reuse, first = features.reuse, index == 0
    prompt, response = (
        features.active & ((features.step % interval == 0) | first)
        for interval in (reuse.prompt_interval, reuse.response_interval)
    )
    due = Due(prompt, response, features.active)
    branches = [partial(run, Part(old, reuse, *whole, due)) for whole in product((False, True), repeat=2)]
    return jax.lax.switch(2 * prompt.any() + response.any(), branches)


def valued(part: Part) -> tuple[Positions, Bool[Array, "B R"] | None]:
    """The positions whose values are computed, and which of them a row keeps (None: all).

    They are all of the response in every step, since they tell what changed; without updates, only where it is due.
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
    """The positions for which all else is computed, and which of them a row keeps. A row that is not due its whole
    response keeps those whose new value vector has the smallest cosine similarity with the old one (V-verify of
    dLLM-Cache, arXiv 2506.06295).

    Positions are ordered by |u - w|^2 = 2 - 2 cos of the unit vectors: near 1 float32 tells apart few cosines.
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
    """`x` at these positions."""
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
    """`old` with `new` at these positions, where it is kept."""
    if kept is not None:
        new = jnp.where(kept.reshape(*kept.shape, *[1] * (new.ndim - 2)), new, take(old, positions))
    if positions is None:
        return new
    if isinstance(positions, slice):
        return old.at[:, positions].set(new)
    return jax.vmap(lambda row, new, at: row.at[at].set(new))(old, new, positions)
