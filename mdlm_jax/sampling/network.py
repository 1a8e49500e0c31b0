"""A trained model as samplers see it: one evaluation reads positions of their rows."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.models.feature_cache import Features, Layer, Reuse
from mdlm_jax.models.transformer import Cache, Model
from mdlm_jax.objectives.base import MaskFn, View, full
from mdlm_jax.sampling.cached_guidance import CachedGuidance, read_guided
from mdlm_jax.sampling.guidance import Weight, Without


class Network(NamedTuple):
    """A model with its parameters, and how its rows are to be read."""

    model: Model
    params: Any
    row: Int[Array, "B N"]  # whole rows; the sampler's tokens are a part of them
    mask: MaskFn = full  # (query position, key position) -> whether it attends
    start: Int[Array, ""] | int = 0  # the position of the sampler's first token
    cache: Cache | None = None  # keys and values of the positions before `start`, where no others are read
    shift: int = 0  # 1: a position predicts the token after the one it reads
    hides_start: bool = False  # with a shift: no position sees the start symbol, which training had none of
    padding: Int[Array, "B"] | None = None  # empty positions at the left of a row
    suppress: tuple[int, ...] = ()  # tokens that are never drawn
    guidance: Weight | None = None  # of classifier-free guidance
    without: tuple[Without, ...] = ()  # the other readings that guidance needs
    watch: Callable | None = None  # called with all rows before every evaluation

    @property
    def mask_id(self) -> int:
        return self.model.architecture.vocab_size

    @property
    def copies(self) -> int:
        """How many times an evaluation reads a row: with guidance once more for each part that it leaves out."""
        return 1 + len(self.without)


def read(
    network: Network,
    cache: Cache | Features | CachedGuidance | None,
    tokens: Int[Array, "B L"],
    t: Float[Array, "B"],
    at: Int[Array, ""] | int = 0,
    width: int | None = None,
) -> tuple[Float[Array, "B width d"], Cache | Features | CachedGuidance | None]:
    """One evaluation: hidden states before the head, of `width` of the sampler's tokens from `at`.

    With guidance, a row is read as it is and without a part of what is given, c and u: u + (weight + 1) (c - u) (SMDM,
    arXiv 2410.18514, section 4.2). The formula is for logits; the head is affine and the weights sum to one, so it may
    come before it. A position draws from p_c^(1 + weight) / p_u^weight, normalised. Positions that no other reading
    guides keep c.

    Args:
        network: The network and its rows.
        cache: Keys and values of earlier evaluations, or cached features; None: every position is read anew.
        tokens: The sampler's tokens.
        t: The noise level of each row.
        at: The first of the tokens to read.
        width: How many to read. Default: all.

    Returns:
        The hidden states, and the cache with what was read in it.
    """
    # shifted, one position more is read at the left; the last is then read for the others to see
    first, width = network.start + at, (width or tokens.shape[1]) + network.shift
    rows = jax.lax.dynamic_update_slice_in_dim(network.row, tokens, network.start, axis=1)
    if network.watch is not None:
        jax.debug.callback(network.watch, rows, ordered=True)

    def part_of(rows, front):
        rows = jnp.pad(rows, ((0, 0), (network.shift, 0)), constant_values=front)
        return jax.lax.dynamic_slice_in_dim(rows, first, width, axis=1)

    evaluate, part, kept = partial(_evaluate, network, t, first), part_of(rows, network.mask_id), width - network.shift
    readings = [jnp.where(part_of(other.masked, False), network.mask_id, part) for other in network.without]
    if isinstance(cache, CachedGuidance):
        hidden, difference, cache = read_guided(evaluate, part, *readings, cache)
        found = [hidden, hidden - difference]
    else:
        found, cache = evaluate(jnp.concatenate([part, *readings]), cache)
        found = jnp.split(found, network.copies)
    hidden, *others = (states[:, :kept] for states in found)
    if network.guidance is None:
        return hidden, cache
    mixed = hidden
    for reading, other in zip(network.without, others, strict=True):
        guides = jax.lax.dynamic_slice_in_dim(reading.guides, first, kept, axis=1)
        # written so that a weight of -1 leaves exactly the states without the prompt
        guided = other + (network.guidance.at(t)[:, None, None] + 1) * (hidden - other)
        mixed = jnp.where(guides[..., None], guided, mixed)
    return mixed, cache


def _evaluate(network: Network, t: Float[Array, "B"], first, part: Int[Array, "n width"], cache):
    """Hidden states of the positions from `first`, of rows that are read once or several times (n a multiple of B)."""
    copies = len(part) // len(t)
    absolute = jnp.broadcast_to(first + jnp.arange(part.shape[1]), part.shape)
    positions = absolute
    if network.padding is not None:
        positions = positions - jnp.tile(network.padding, copies)[:, None]
        part = jnp.where(positions >= 0, part, 0)
        if network.shift:  # the start symbol stands right before the first token
            part = jnp.where(positions == 0, network.mask_id, part)
    if network.padding is not None or network.hides_start:
        # a cache knows which positions are not seen
        cache = new_cache(network) if cache is None else cache
    view = reading(part, positions[..., None], positions[..., None], jnp.tile(t, copies))
    if network.shift:
        # the tokens before the sampler's, and the start symbol, are clean
        view = view._replace(t=jnp.where((absolute > network.start) & (positions > 0), view.t, 0))
    if isinstance(cache, Cache):
        cache = cache._replace(length=jnp.asarray(first, jnp.int32))
    return network.model.hidden(network.params, view, network.mask, cache=cache)


def new_cache(network: Network) -> Cache:
    """An empty cache for all positions of the rows, twice with guidance."""
    batch, length = network.row.shape
    cache = network.model.empty_cache(network.copies * batch, length + network.shift)
    if network.padding is None and not network.hides_start:
        return cache
    padding = jnp.zeros(batch, jnp.int32) if network.padding is None else network.padding
    first_seen = jnp.tile(padding + int(network.hides_start), network.copies)[:, None]
    return cache._replace(filled=jnp.arange(length + network.shift) >= first_seen)


def new_features(network: Network, reuse: Reuse, guidance_interval: int = 1) -> Features | CachedGuidance:
    """Empty cached features for all positions of the rows; with guidance, also those of the rows without their prompt.

    Args:
        network: The network and its rows.
        reuse: The settings of the cache.
        guidance_interval: Steps from one evaluation without the prompt to the next.
    """
    width = network.model.architecture.width
    if network.guidance is not None:
        features = new_features(network._replace(guidance=None, without=()), reuse)
        batch, length = network.row.shape
        difference = jnp.zeros((batch, length + network.shift, width))
        return CachedGuidance(features, features, difference, jnp.int32(guidance_interval))
    cache = new_cache(network)

    def with_outputs(layer: Layer) -> Layer:
        # here positions are picked out: they stand before the heads
        keys, values = (jnp.swapaxes(field, -3, -2) for field in layer[:2])
        out = jnp.zeros((*keys.shape[:-2], width), keys.dtype)
        return Layer(keys, values, out, out)

    layers = jax.tree.map(with_outputs, cache.layers, is_leaf=lambda node: isinstance(node, Layer))
    rows = len(network.row)
    return Features(layers, jnp.zeros(rows, jnp.int32), jnp.ones(rows, bool), reuse, cache.filled)


def logits_of(network: Network, hidden: Float[Array, "*n d"]) -> Float[Array, "*n V"]:
    """Logits from hidden states: -inf for tokens that are never drawn."""
    logits = network.model.head(network.params, hidden)
    return logits.at[..., jnp.array(network.suppress)].set(-jnp.inf) if network.suppress else logits


def positions_of(network: Network, tokens: Int[Array, "B L"]) -> Int[Array, "B L"]:
    """Positions of the sampler's tokens, counted from the first that is not padding. Keys are folded by them, so that a
    row does not depend on its padding."""
    positions = jnp.broadcast_to(network.start + jnp.arange(tokens.shape[1]), tokens.shape)
    return positions if network.padding is None else positions - network.padding[:, None]


def uniform_at(keys: Array, positions: Int[Array, "B L"]) -> Float[Array, "B L"]:
    """A uniform number for every position, from its row's key and the position alone."""
    of_position = jax.vmap(lambda key, position: jax.random.uniform(jax.random.fold_in(key, position)), (None, 0))
    return jax.vmap(of_position)(keys, positions)


def masked_share(network: Network, tokens: Int[Array, "B L"]) -> Float[Array, "B"]:
    """The share of each row that is a mask: its noise level."""
    return (tokens == network.mask_id).sum(axis=1) / jnp.maximum((positions_of(network, tokens) >= 0).sum(axis=1), 1)


def reading(
    tokens: Int[Array, "B N"],
    positions: Int[Array, "B N P"],
    key_positions: Int[Array, "B N P"],
    t: Float[Array, "B"],
) -> View:
    """A view without a loss: one document per row."""
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
