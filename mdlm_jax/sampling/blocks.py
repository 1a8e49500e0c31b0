"""Any sampler of masks or noise inside the blocks of a network trained in blocks (BD3-LM, arXiv 2503.09573)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.objectives.base import MaskFn
from mdlm_jax.sampling.base import Plan, Trace, TracedArguments
from mdlm_jax.sampling.network import Network, new_cache, read


def in_blocks(
    sampler: Callable, keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments
) -> tuple[Int[Array, "B L"], Trace]:
    """From left to right, each block by `sampler`, which sees it as a row of its own.

    Keys and values of finished blocks are kept. That is exact, since no position sees a later block: one evaluation for
    all blocks of the prompt, and one for each finished block but the last. `plan.steps` is of the whole row, a block
    has its share. After a block with the token `stop` the rest of a row is filled with it.
    """
    (batch, length), size = tokens.shape, plan.trained_blocks
    free, num_blocks = tokens == network.mask_id, length // size
    network = network._replace(mask=causal_blocks(size, int(plan.shift)), shift=int(plan.shift))
    inner = plan._replace(steps=None if plan.steps is None else plan.steps // num_blocks, bucket=0)
    traced, first_block = traced._replace(first=jnp.int32(0)), traced.first // size

    def keep(cache, tokens, at, width):
        """The cache with finished blocks in it."""
        return read(network._replace(row=tokens), cache, tokens, jnp.zeros(batch), at, width)[1]

    def next_block(index, state):
        cache, tokens, when, nats, evaluations = state
        start = index * size
        if plan.stop is not None:
            ended = (free & (tokens == plan.stop)).any(axis=1, keepdims=True)
            tokens = jnp.where((tokens == network.mask_id) & ended, plan.stop, tokens)
        here = network._replace(row=tokens, start=start, cache=cache)
        block = jax.lax.dynamic_slice_in_dim(tokens, start, size, axis=1)
        waits = (block == network.mask_id).any(axis=1)
        # a row's draws in a block depend on the block as the row counts it
        number = index if network.padding is None else index - network.padding // size
        keys_here = jax.vmap(jax.random.fold_in)(keys, jnp.broadcast_to(number, (batch,)))
        drawn, trace = sampler(keys_here, here, block, inner, traced)

        def put(field, new):
            return jax.lax.dynamic_update_slice_in_dim(field, new, start, axis=1)

        old = jax.lax.dynamic_slice_in_dim(when, start, size, axis=1)
        step = jnp.where(trace.step < 0, old, evaluations[:, None] + trace.step)
        tokens = put(tokens, drawn)
        more = (tokens == network.mask_id).any(axis=1)
        if plan.stop is not None:
            more &= ~(free & (tokens == plan.stop)).any(axis=1)
        cache = jax.lax.cond(more.any(), lambda: keep(cache, tokens, start, size), lambda: cache)
        spent = jnp.where(waits, trace.evaluations, 0) + (more & (index >= own_first))
        return cache, tokens, put(when, step), put(nats, trace.log_probability), evaluations + spent

    # a row is charged for what it would need alone
    own_first = free.argmax(axis=1) // size
    given_blocks = own_first - (0 if network.padding is None else network.padding // size)
    cache, begun = new_cache(network), first_block > 0
    width = min(length, -(-plan.bucket // size) * size)
    if width:
        cache = jax.lax.cond(begun, lambda: keep(cache, tokens, 0, width), lambda: cache)
    state = (
        cache,
        tokens,
        jnp.full(tokens.shape, -1, jnp.int32),
        jnp.zeros(tokens.shape),
        (given_blocks > 0).astype(jnp.int32),
    )
    _, tokens, when, nats, evaluations = jax.lax.fori_loop(first_block, num_blocks, next_block, state)
    return tokens, Trace(when, nats, evaluations)


def causal_blocks(size: int, shift: int = 0) -> MaskFn:
    """A position sees its own block and those before it. With `shift` 1 a start stands in front, a block of its own."""

    def mask(query, key):
        return (key - shift) // size <= (query - shift) // size

    return mask
