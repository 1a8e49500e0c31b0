"""A trained model as the samplers see it: it reads positions of their rows, and answers for them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.models.feature_cache import Features, Layer, Reuse
from mdlm_jax.models.transformer import Cache, Model
from mdlm_jax.objectives.base import MaskFn, View, full


class Network(NamedTuple):
    """What a sampler may ask, and what it need not know of."""

    model: Model
    params: Any
    row: Int[Array, "B N"]  # all there is of a text; the sampler's tokens are a part of it
    mask: MaskFn = full  # who sees whom, by positions of the row
    start: Int[Array, ""] | int = 0  # the position of the sampler's first token
    cache: Cache | None = None  # keys and values of the positions before it, where the network reads no others
    shift: int = 0  # 1: a position predicts the token after the one it reads
    hides_start: bool = False  # with a shift: no position sees the start symbol, which training had none of
    padding: Int[Array, "B"] | None = None  # positions at the left of a row that hold nothing
    guidance: Float[Array, ""] | None = None  # weight of classifier-free guidance
    ramp: bool = False  # the weight grows as noise goes: it is multiplied by 1 - t
    prompt: Bool[Array, "B N"] | None = None  # the positions that guidance masks
    watch: Callable | None = None  # is told every row that is read

    @property
    def mask_id(self) -> int:
        return self.model.architecture.vocab_size

    @property
    def copies(self) -> int:
        """How often a row is read in an evaluation."""
        return 1 if self.guidance is None else 2


def read(
    network: Network,
    cache: Cache | Features | None,
    tokens: Int[Array, "B L"],
    t: Float[Array, "B"],
    at: Int[Array, ""] | int = 0,
    width: int | None = None,
) -> tuple[Float[Array, "B width d"], Cache | Features | None]:
    """One evaluation: what the network says, before its head, of `width` of the sampler's tokens, from `at`.

    With a cache, positions that are not read are as they were when they last were; what is read goes into it. Features
    say themselves what is computed of a whole row.

    Guided, a row is read with what is given and without it, c and u: u + (weight + 1) (c - u) (SMDM, arXiv 2410.18514,
    section 4.2). The formula is for logits; since the head is affine and the weights sum to one, it may come before it.
    """
    # shifted, one position more is read at the left; the last is then read for the others to see
    first, width = network.start + at, (width or tokens.shape[1]) + network.shift
    rows = jax.lax.dynamic_update_slice_in_dim(network.row, tokens, network.start, axis=1)
    if network.watch is not None:
        jax.debug.callback(network.watch, rows, ordered=True)

    def part_of(rows, front):
        rows = jnp.pad(rows, ((0, 0), (network.shift, 0)), constant_values=front)
        return jax.lax.dynamic_slice_in_dim(rows, first, width, axis=1)

    part = part_of(rows, network.mask_id)
    if network.guidance is not None:
        given = part_of(network.prompt, False)
        part = jnp.concatenate([part, jnp.where(given, network.mask_id, part)])
    absolute = jnp.broadcast_to(first + jnp.arange(width), part.shape)
    positions = absolute
    if network.padding is not None:
        positions = positions - jnp.tile(network.padding, network.copies)[:, None]
        part = jnp.where(positions >= 0, part, 0)
        if network.shift:  # the start symbol stands right before the first token
            part = jnp.where(positions == 0, network.mask_id, part)
    if network.padding is not None or network.hides_start:
        # a cache knows which positions are not seen
        cache = new_cache(network) if cache is None else cache
    view = reading(part, positions[..., None], positions[..., None], jnp.tile(t, network.copies))
    if network.shift:
        # the tokens before the sampler's, and the start symbol, are clean
        view = view._replace(t=jnp.where((absolute > network.start) & (positions > 0), view.t, 0))
    if isinstance(cache, Cache):
        cache = cache._replace(length=jnp.asarray(first, jnp.int32))
    hidden, cache = network.model.hidden(network.params, view, network.mask, cache=cache)
    if network.guidance is not None:
        with_given, without = jnp.split(hidden, 2)
        weight = network.guidance * (1 - t)[:, None, None] if network.ramp else network.guidance
        hidden = without + (weight + 1) * (with_given - without)
    return hidden[:, : width - network.shift], cache


def new_cache(network: Network) -> Cache:
    """An empty cache for all positions of the rows, each twice where they are guided."""
    batch, length = network.row.shape
    cache = network.model.empty_cache(network.copies * batch, length + network.shift)
    if network.padding is None and not network.hides_start:
        return cache
    padding = jnp.zeros(batch, jnp.int32) if network.padding is None else network.padding
    first_seen = jnp.tile(padding + int(network.hides_start), network.copies)[:, None]
    return cache._replace(filled=jnp.arange(length + network.shift) >= first_seen)


def new_features(network: Network, reuse: Reuse) -> Features:
    """No features yet, of all positions of the rows, each twice where they are guided."""
    cache, width = new_cache(network), network.model.architecture.width

    def with_outputs(layer: Layer) -> Layer:
        # here positions are picked out: they stand before the heads
        keys, values = (jnp.swapaxes(field, -3, -2) for field in layer[:2])
        out = jnp.zeros((*keys.shape[:-2], width), keys.dtype)
        return Layer(keys, values, out, out)

    layers = jax.tree.map(with_outputs, cache.layers, is_leaf=lambda node: isinstance(node, Layer))
    rows = network.copies * len(network.row)
    return Features(layers, jnp.zeros(rows, jnp.int32), jnp.ones(rows, bool), reuse, cache.filled)


def logits_of(network: Network, hidden: Float[Array, "*n d"]) -> Float[Array, "*n V"]:
    """What the network says, from what it says before its head."""
    return network.model.head(network.params, hidden)


def positions_of(network: Network, tokens: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """Of the sampler's tokens in their rows, counted from the first that holds something: randomness is folded by them,
    so that a row is the same whatever stands to its left."""
    positions = jnp.broadcast_to(network.start + jnp.arange(tokens.shape[1]), tokens.shape)
    return positions if network.padding is None else positions - network.padding[:, None]


def uniform_at(keys: Array, positions: Int[Array, "B L"]) -> Float[Array, "B L"]:
    """A number in [0, 1) for every position, which depends on its row's key and on the position alone."""
    of_position = jax.vmap(lambda key, position: jax.random.uniform(jax.random.fold_in(key, position)), (None, 0))
    return jax.vmap(of_position)(keys, positions)


def masked_share(network: Network, tokens: Int[Array, "B L"]) -> Float[Array, "B"]:
    """Of each row, how much is still a mask: the noise level that it looks like."""
    return (tokens == network.mask_id).sum(axis=1) / jnp.maximum((positions_of(network, tokens) >= 0).sum(axis=1), 1)


def reading(
    tokens: Int[Array, "B N"],
    positions: Int[Array, "B N P"],
    key_positions: Int[Array, "B N P"],
    t: Float[Array, "B"],
) -> View:
    """A view that is only read: one document a row, nothing scored."""
    return View(
        tokens=tokens,
        targets=tokens,
        weight=jnp.zeros(tokens.shape),
        t=t[:, None],
        positions=positions,
        key_positions=key_positions,
        segments=jnp.ones_like(tokens),
        constant=jnp.zeros(tokens.shape[0]),
    )
