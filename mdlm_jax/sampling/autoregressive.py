"""One token after another with a key-value cache, left to right or in a random order. Exact for its network."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.objectives.any_order import turns
from mdlm_jax.objectives.base import Objective, causal
from mdlm_jax.objectives.predictions import predicts_in_any_order, predicts_next
from mdlm_jax.sampling.base import Context, Request, Trace
from mdlm_jax.sampling.drawing import draw
from mdlm_jax.sampling.network import Network, logits_of, new_cache, positions_of, reading, uniform_at


class Autoregressive(NamedTuple):
    """Left to right, for `ar`: a position reads the token before it, the first one the start symbol.

    L - P evaluations per row, or fewer once every row has drawn `stop`.
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    top_k: int | None = None  # draw from the k likeliest tokens
    top_p: float | None = None  # draw from the smallest set of tokens of this probability
    stop: int | None = None  # id of the token that ends a text; the rest of its row repeats it
    suppress: tuple[int, ...] = ()  # tokens that are never drawn

    cannot = frozenset({"infill", "blocks"})

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return predicts_next(objective)

    def check(self, request: Request) -> None:
        """All fields are checked by name."""

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        order = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        positions = positions_of(network, tokens)[..., None]
        return _decode(keys, network, tokens, order, positions, positions, self, context)


class Ordered(NamedTuple):
    """In an order of each row's own, after the prompt, for `any_order_causal`. L - P evaluations per row.

    The order is drawn as in training: random, or random for a share of the tokens and then from left to right.
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    top_k: int | None = None  # draw from the k likeliest tokens
    top_p: float | None = None  # draw from the smallest set of tokens of this probability

    cannot = frozenset({"infill", "blocks"})

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return predicts_in_any_order(objective)

    def check(self, request: Request) -> None:
        """All fields are checked by name."""

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        # a number that is no position: keys of positions draw tokens
        keys_order = jax.vmap(lambda key: jax.random.fold_in(key, 2**32 - 1))(keys)
        chance = turns(uniform_at(keys_order, positions_of(network, tokens)), context.trained.shuffled_share)
        order = jnp.argsort(jnp.where(tokens == network.mask_id, chance, -1.0), axis=1, stable=True)
        return decode_in_order(keys, network, tokens, order, self, context)


def decode_in_order(
    keys: Array,
    network: Network,
    tokens: Int[Array, "B L"],
    order: Int[Array, "B L"],
    sampler: Ordered,
    context: Context,
) -> tuple[Int[Array, "B L"], Trace]:
    """In this order of positions, the prompt's first. RoPE rotates a query by (source, target), a key by (source,
    source)."""
    padding = jnp.zeros(len(tokens), jnp.int32) if network.padding is None else network.padding
    target = order - padding[:, None]
    before = jnp.concatenate([jnp.full_like(target[:, :1], -1), target[:, :-1]], axis=1)
    source = jnp.maximum(before, -1)  # the start symbol follows what pads the row
    positions, key_positions = jnp.stack([source, target], axis=-1), jnp.stack([source, source], axis=-1)
    return _decode(keys, network, tokens, order, positions, key_positions, sampler, context)


def _decode(keys, network: Network, tokens, order, positions, key_positions, sampler: Any, context: Context):
    """The n-th position read holds the token before the n-th of the order, the first one the start symbol: the prompt
    in one evaluation, then one token at a time with the cache."""
    (batch, length), first = tokens.shape, context.first
    rows, padding = jnp.arange(batch), jnp.zeros(batch, jnp.int32) if network.padding is None else network.padding
    in_row, reads_start = positions_of(network, tokens), context.trained.reads_start
    stop, suppress = getattr(sampler, "stop", None), jnp.array(getattr(sampler, "suppress", ()), jnp.int32)

    def read(cache, tokens, at, width):
        """Positions at .. at + width of the order."""
        here = jax.lax.dynamic_slice_in_dim(jnp.arange(-1, length - 1), at, width)
        before = jnp.take_along_axis(tokens, order[:, jnp.maximum(here, 0)], axis=1)
        before = jnp.where(here + 1 == padding[:, None], network.mask_id, jnp.maximum(before, 0))
        turns = (jax.lax.dynamic_slice_in_dim(field, at, width, axis=1) for field in (positions, key_positions))
        if network.watch is not None:
            jax.debug.callback(network.watch, tokens, ordered=True)
        view = reading(before, *turns, jnp.zeros(batch))
        return network.model.hidden(
            network.params, view, causal, cache=cache._replace(length=jnp.asarray(at, jnp.int32))
        )

    def draw_next(state, hidden, n):
        """The token of the n-th position of the order."""
        tokens, step, nats, evaluations, ended = state
        target = order[:, n]
        keys_here = jax.vmap(jax.random.fold_in)(keys, in_row[rows, target])
        logits = logits_of(network, hidden).at[:, suppress].set(-jnp.inf)
        token, log_probability = draw(keys_here, logits, context.temperature, sampler.top_k, sampler.top_p)
        if stop is not None:
            token = jnp.where(ended, stop, token)
        return (
            tokens.at[rows, target].set(token),
            step.at[rows, target].set(jnp.where(ended, -1, n - first)),
            nats.at[rows, target].set(jnp.where(ended, 0, log_probability)),
            evaluations + ~ended,
            ended | (False if stop is None else token == stop),
        )

    cache = new_cache(network)
    if network.padding is not None or not reads_start:
        # a network that was trained without a start symbol does not see it
        begin = padding[:, None] + (0 if reads_start else 1)
        cache = cache._replace(filled=jnp.arange(length) >= begin)
    # what is read after the prompt is read again before any position sees it
    width = min(length, context.bucket + 1)
    hidden, cache = read(cache, tokens, 0, width)
    state = (
        tokens,
        jnp.full(tokens.shape, -1, jnp.int32),
        jnp.zeros(tokens.shape),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, bool),
    )
    state = draw_next(state, jax.lax.dynamic_index_in_dim(hidden, first, axis=1, keepdims=False), first)

    def next_token(carry):
        n, cache, state = carry
        hidden, cache = read(cache, state[0], n, 1)
        return n + 1, cache, draw_next(state, hidden[:, 0], n)

    _, _, (tokens, step, nats, evaluations, _) = jax.lax.while_loop(
        lambda carry: (carry[0] < length) & ~carry[2][-1].all(), next_token, (first + 1, cache, state)
    )
    if stop is not None:  # every row has ended
        tokens = jnp.where(tokens == network.mask_id, stop, tokens)
    return tokens, Trace(step, nats, evaluations)
