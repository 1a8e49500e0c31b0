"""Any sampler of masks or noise inside the blocks of a network trained in blocks (BD3-LM, arXiv 2503.09573)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.objectives.base import MaskFn
from mdlm_jax.sampling.base import Context, Sampler, Trace
from mdlm_jax.sampling.network import Network, new_cache, read


def in_blocks(
    sampler: Sampler, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context
) -> tuple[Int[Array, "B L"], Trace]:
    """Draws block after block from left to right, each by `sampler`, which sees it as a row of its own.

    Keys and values of finished blocks are cached. That is exact, since no position sees a later block: one evaluation
    for all blocks of the prompt, and one for each finished block but the last. The sampler's `steps` are those of the
    whole row; each block has its share. After a block with the token `stop` the rest of a row is filled with it.
    """
    (batch, length), size, shift = tokens.shape, context.trained.block_size, network.shift
    free, num_blocks = tokens == network.mask_id, length // size
    network = network._replace(mask=causal_blocks(size, shift))
    sampler, stop = _share_of_a_block(sampler, num_blocks), getattr(sampler, "stop", None)
    inner, first_block = context._replace(first=jnp.int32(0), bucket=0), context.first // size

    def keep(cache, tokens, at, width):
        """The cache with finished blocks in it."""
        return read(network._replace(row=tokens), cache, tokens, jnp.zeros(batch), at, width)[1]

    def next_block(index, state):
        cache, tokens, step, nats, evaluations = state
        start = index * size
        if stop is not None:
            ended = (free & (tokens == stop)).any(axis=1, keepdims=True)
            tokens = jnp.where((tokens == network.mask_id) & ended, stop, tokens)
        here = network._replace(row=tokens, start=start, cache=cache)
        block = jax.lax.dynamic_slice_in_dim(tokens, start, size, axis=1)
        waits = (block == network.mask_id).any(axis=1)
        # a row's draws in a block depend on the block as the row counts it
        number = index if network.padding is None else index - network.padding // size
        keys_here = jax.vmap(jax.random.fold_in)(keys, jnp.broadcast_to(number, (batch,)))
        drawn, trace = sampler.draw(keys_here, here, block, inner)

        def put(field, new):
            return jax.lax.dynamic_update_slice_in_dim(field, new, start, axis=1)

        old = jax.lax.dynamic_slice_in_dim(step, start, size, axis=1)
        step_here = jnp.where(trace.step < 0, old, evaluations[:, None] + trace.step)
        tokens = put(tokens, drawn)
        more = (tokens == network.mask_id).any(axis=1)
        if stop is not None:
            more &= ~(free & (tokens == stop)).any(axis=1)
        cache = jax.lax.cond(more.any(), lambda: keep(cache, tokens, start, size), lambda: cache)
        spent = jnp.where(waits, trace.evaluations, 0) + (more & (index >= own_first))
        return cache, tokens, put(step, step_here), put(nats, trace.log_probability), evaluations + spent

    # a row is charged for what it would need alone
    own_first = free.argmax(axis=1) // size
    given_blocks = own_first - (0 if network.padding is None else network.padding // size)
    cache, has_prompt = new_cache(network), first_block > 0
    width = min(length, -(-context.bucket // size) * size)
    if width:
        cache = jax.lax.cond(has_prompt, lambda: keep(cache, tokens, 0, width), lambda: cache)
    state = (
        cache,
        tokens,
        jnp.full(tokens.shape, -1, jnp.int32),
        jnp.zeros(tokens.shape),
        (given_blocks > 0).astype(jnp.int32),
    )
    _, tokens, step, nats, evaluations = jax.lax.fori_loop(first_block, num_blocks, next_block, state)
    return tokens, Trace(step, nats, evaluations)


def _share_of_a_block(sampler, num_blocks: int):
    """The sampler with the steps of one block."""
    steps = getattr(sampler, "steps", None)
    return sampler if steps is None else sampler._replace(steps=steps // num_blocks)


def causal_blocks(size: int, shift: int = 0) -> MaskFn:
    """A position sees its own block and those before it. With `shift` 1 the start symbol in front is its own block."""

    def mask(query, key):
        return (key - shift) // size <= (query - shift) // size

    return mask
