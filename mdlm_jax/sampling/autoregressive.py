"""One token after another, each seeing those before it: left to right, or in a random order. Exact for its network."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.objectives.base import causal
from mdlm_jax.sampling.base import Plan, Trace, TracedArguments, draw
from mdlm_jax.sampling.network import Network, logits_of, new_cache, positions_of, reading, uniform_at


def autoregressive(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """Left to right, for `ar`: a position reads the token before it, the first the mask. L - P evaluations, or as many
    as it takes until every row has said `stop`."""
    order = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    positions = positions_of(network, tokens)[..., None]
    return _decode(keys, network, tokens, order, positions, positions, plan, traced)


def ordered(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """In a random order of each row's own, for `any_order_causal`: the prompt comes first. L - P evaluations."""
    # a position that no token is drawn for
    keys_order = jax.vmap(lambda key: jax.random.fold_in(key, 2**32 - 1))(keys)
    chance = uniform_at(keys_order, positions_of(network, tokens))
    order = jnp.argsort(jnp.where(tokens == network.mask_id, chance, -1.0), axis=1, stable=True)
    return decode_in_order(keys, network, tokens, order, plan, traced)


def decode_in_order(keys, network: Network, tokens: Int[Array, "B L"], order: Int[Array, "B L"], plan, traced):
    """In this order, whose first P positions are the prompt's: a query turns by (own, target), a key by (own, own)."""
    padding = jnp.zeros(len(tokens), jnp.int32) if network.padding is None else network.padding
    target = order - padding[:, None]
    before = jnp.concatenate([jnp.full_like(target[:, :1], -1), target[:, :-1]], axis=1)
    own = jnp.maximum(before, -1)  # the start symbol follows what pads the row
    positions, key_positions = jnp.stack([own, target], axis=-1), jnp.stack([own, own], axis=-1)
    return _decode(keys, network, tokens, order, positions, key_positions, plan, traced)


def _decode(keys, network: Network, tokens, order, positions, key_positions, plan: Plan, traced: TracedArguments):
    """The n-th position read holds the token before the n-th of the order, the first the mask: all that is given in one
    pass, then one at a time with the cache."""
    (batch, length), first = tokens.shape, traced.first
    rows, padding = jnp.arange(batch), jnp.zeros(batch, jnp.int32) if network.padding is None else network.padding
    in_row = positions_of(network, tokens)

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

    def position(state, hidden, n):
        """The token of the n-th position of the order."""
        tokens, when, nats, evaluations, ended = state
        target = order[:, n]
        keys_here = jax.vmap(jax.random.fold_in)(keys, in_row[rows, target])
        token, log_probability = draw(keys_here, logits_of(network, hidden), traced.temperature, plan.top_k, plan.top_p)
        if plan.stop is not None:
            token = jnp.where(ended, plan.stop, token)
        return (
            tokens.at[rows, target].set(token),
            when.at[rows, target].set(jnp.where(ended, -1, n - first)),
            nats.at[rows, target].set(jnp.where(ended, 0, log_probability)),
            evaluations + ~ended,
            ended | (False if plan.stop is None else token == plan.stop),
        )

    cache = new_cache(network)
    if network.padding is not None or not plan.reads_start:
        # a network that was trained without a start symbol does not see it
        begin = padding[:, None] + (0 if plan.reads_start else 1)
        cache = cache._replace(filled=jnp.arange(length) >= begin)
    # what is read behind the prompt is read again before anything sees it
    width = min(length, plan.bucket + 1)
    hidden, cache = read(cache, tokens, 0, width)
    state = (
        tokens,
        jnp.full(tokens.shape, -1, jnp.int32),
        jnp.zeros(tokens.shape),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, bool),
    )
    state = position(state, jax.lax.dynamic_index_in_dim(hidden, first, axis=1, keepdims=False), first)

    def step(carry):
        n, cache, state = carry
        hidden, cache = read(cache, state[0], n, 1)
        return n + 1, cache, position(state, hidden[:, 0], n)

    _, _, (tokens, when, nats, evaluations, _) = jax.lax.while_loop(
        lambda carry: (carry[0] < length) & ~carry[2][-1].all(), step, (first + 1, cache, state)
    )
    rest = tokens == network.mask_id  # every row has ended
    if plan.stop is not None:
        tokens = jnp.where(rest, plan.stop, tokens)
    return tokens, Trace(when, nats, evaluations)
