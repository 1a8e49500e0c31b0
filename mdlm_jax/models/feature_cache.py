"""Features of earlier steps instead of new ones: dLLM-Cache (arXiv 2506.06295).

A row is a prompt and a response. Every layer's keys, values, and what its attention and its MLP put out are kept from
step to step: in some steps a region is computed anew, in the others only those places of the response whose values
changed most. The first layer computes all places in every step: it reads the tokens.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

Places = slice | Int[Array, "B R"] | None  # None: all


class Layer(NamedTuple):
    """What is kept of a layer, or, with one more axis, of all of them."""

    keys: Float[Array, "*layers B N G d"] | None
    values: Float[Array, "*layers B N G d"] | None
    attention: Float[Array, "*layers B N width"] | None = None  # before the gate of adaLN, which belongs to the step
    mlp: Float[Array, "*layers B N width"] | None = None


@jax.tree_util.register_static
class Reuse(NamedTuple):
    """What is fixed from the first step to the last: it has no arrays, and shapes depend on it."""

    prompt: int  # P: places of the prompt; what follows is the response
    prompt_interval: int  # every so many steps the prompt is computed anew
    response_interval: int
    updated: int  # places of the response that are computed anew in the other steps


class Features(NamedTuple):
    """What is kept of all layers. The clock is one for all rows: a step computes the same regions of each."""

    layers: tuple[Layer, ...] | Layer
    step: Int[Array, ""]  # evaluations so far
    reuse: Reuse
    filled: Bool[Array, "B N"] | None = None  # which places hold a token at all; None: all


class Part(NamedTuple):
    """What a layer computes in a step."""

    old: Layer
    reuse: Reuse | None
    prompt: bool  # all of the prompt, or none of it
    response: bool  # all of the response, or the places that changed most


WHOLE = Part(Layer(None, None), None, True, True)


def by_step(features: Features, index: Array | int, old: Layer, run: Callable[[Part], Any]) -> Any:
    """`run` of what the layer `index` computes in this step, of which `old` is kept."""
    intervals = features.reuse.prompt_interval, features.reuse.response_interval
    prompt, response = ((features.step % interval == 0) | (index == 0) for interval in intervals)
    branches = [partial(run, Part(old, features.reuse, *whole)) for whole in product((False, True), repeat=2)]
    return jax.lax.switch(2 * prompt + response, branches)


def valued(part: Part) -> slice | None:
    """The places whose values are computed: all of the response in every step, since they tell what changed."""
    return None if part.prompt else slice(part.reuse.prompt, None)


def changed(part: Part, values: Float[Array, "B N G d"]) -> Places:
    """The places for which all else is computed. Where that is not the whole response, those whose new value vector
    has the smallest cosine similarity with the old one (V-verify of dLLM-Cache, arXiv 2506.06295).

    Places are ordered by |u - w|^2 = 2 - 2 cos of the unit vectors: near 1 float32 tells apart few cosines.
    """
    if part.response:
        return valued(part)
    first = part.reuse.prompt

    def units(values):
        vectors = values[:, first:].reshape(*values[:, first:].shape[:2], -1).astype(jnp.float32)
        return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)

    distance = jnp.square(units(values) - units(part.old.values)).sum(axis=-1)
    places = first + jax.lax.top_k(distance, part.reuse.updated)[1]
    if not part.prompt:
        return places
    return jnp.concatenate([jnp.broadcast_to(jnp.arange(first), (len(places), first)), places], axis=1)


def take(x: Shaped[Array, "#B N *d"] | None, places: Places) -> Shaped[Array, "#B R *d"] | None:
    """`x` at these places."""
    if x is None or places is None:
        return x
    if isinstance(places, slice):
        return x[:, places]
    return jax.vmap(lambda row, at: row[at])(jnp.broadcast_to(x, (len(places), *x.shape[1:])), places)


def put(old: Float[Array, "B N *d"] | None, new: Float[Array, "B R *d"], places: Places) -> Float[Array, "B N *d"]:
    """`old` with `new` at these places."""
    if places is None:
        return new
    if isinstance(places, slice):
        return old.at[:, places].set(new)
    return jax.vmap(lambda row, new, at: row.at[at].set(new))(old, new, places)
