"""The algorithm of `Confidence`: blocks, in each block steps, in each step one evaluation and a choice per row."""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.models.feature_cache import Features, Reuse
from mdlm_jax.models.transformer import Cache
from mdlm_jax.sampling.base import BUCKET, Context, Trace
from mdlm_jax.sampling.cached_guidance import CachedGuidance, with_active
from mdlm_jax.sampling.counts import count_table
from mdlm_jax.sampling.drawing import candidates, filtered
from mdlm_jax.sampling.network import Network, logits_of, masked_share, new_cache, new_features, positions_of, read
from mdlm_jax.sampling.unmasking import CONFIDENCES, chosen, linear_count

if TYPE_CHECKING:
    from mdlm_jax.sampling.confidence import Confidence

PROMPT_INTERVAL, RESPONSE_INTERVAL, UPDATE_SHARE = 100, 7, 0.25  # dLLM-Cache's own demonstration


class _Setup(NamedTuple):
    """What all blocks of a call share."""

    sampler: "Confidence"
    context: Context
    network: Network
    keys: Array
    free: Bool[Array, "B L"]  # masks at the start
    positions: Int[Array, "B L"]
    size: int  # of a block
    first: Int[Array, ""] | int  # where the first block begins
    num_blocks: Int[Array, ""] | int
    own_blocks: Int[Array, "*B"] | int  # of each row
    steps: Int[Array, "*B"]  # of a block, in each row
    own_first: Int[Array, "B"]  # the first mask of each row


class _State(NamedTuple):
    tokens: Int[Array, "B L"]
    step: Int[Array, "B L"]
    nats: Float[Array, "B L"]
    evaluations: Int[Array, "B"]  # steps that found a mask: a row's own clock, whatever the others do
    cache: Cache | Features | CachedGuidance | None
    has_block: Bool[Array, "B"]  # the rows whose cache holds all of the trained block (sub_block)


def decode(
    sampler: "Confidence", keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context
) -> tuple[Int[Array, "B L"], Trace]:
    """Block after block from left to right."""
    setup = _setup(sampler, keys, network, tokens, context)
    state = _State(
        tokens,
        jnp.full(tokens.shape, -1, jnp.int32),
        jnp.zeros(tokens.shape),
        jnp.zeros(len(tokens), jnp.int32),
        _first_cache(setup),
        jnp.zeros(len(tokens), bool),
    )
    if sampler.lead:
        state = _lead(setup, state)
    state = jax.lax.fori_loop(
        0, setup.num_blocks, lambda index, state: _block(setup, state, setup.first + index * setup.size), state
    )
    return state.tokens, Trace(state.step, state.nats, state.evaluations)


def _setup(sampler: "Confidence", keys, network: Network, tokens, context: Context) -> _Setup:
    length, free, trained = tokens.shape[1], tokens == network.mask_id, context.trained.block_size
    # one block is read from where the bucket of the prompt begins: what is given in it has no mask
    start_of_one = 0 if trained else max(context.bucket - BUCKET, 0)
    size = sampler.block_size or length - start_of_one
    after_prompt = sampler.block_size and not trained
    first = context.first if after_prompt else start_of_one
    num_blocks = (length - first) // size
    # in a row that begins later there are fewer blocks
    own_first = free.argmax(axis=1)
    own_blocks = -(-(length - own_first) // size) if after_prompt else num_blocks
    steps = jnp.maximum((sampler.steps or length - context.first) // own_blocks, 1)
    blocks = size, first, num_blocks, own_blocks, steps, own_first
    return _Setup(sampler, context, network, keys, free, positions_of(network, tokens), *blocks)


def _first_cache(setup: _Setup) -> Cache | Features | CachedGuidance | None:
    sampler, network = setup.sampler, setup.network
    if sampler.cache == "none":
        return None
    if sampler.cache != "features":
        return new_cache(network) if network.cache is None else network.cache
    prompt = setup.context.bucket  # with features the bucket is the prompt itself
    share = UPDATE_SHARE if sampler.update_share is None else sampler.update_share
    updated = max(int((setup.free.shape[1] - prompt) * share), 1) if share else 0
    intervals = sampler.prompt_interval or PROMPT_INTERVAL, sampler.response_interval or RESPONSE_INTERVAL
    return new_features(network, Reuse(prompt + network.shift, *intervals, updated), sampler.guidance_interval or 1)


def _part(setup: _Setup, field: Array, start) -> Array:
    """The block at `start`."""
    return jax.lax.dynamic_slice_in_dim(field, start, setup.size, axis=1)


def _any_masked(setup: _Setup, state: _State, start) -> Bool[Array, "B"]:
    """The rows with a mask in the block at `start`."""
    return (_part(setup, state.tokens, start) == setup.network.mask_id).any(axis=1)


def _block(setup: _Setup, state: _State, start) -> _State:
    """All steps of the block at `start`."""
    sampler, mask_id, length = setup.sampler, setup.network.mask_id, setup.free.shape[1]
    if sampler.stop is not None:
        state = _fill_after_stop(setup, state, sampler.stop)
    num_masked = (_part(setup, state.tokens, start) == mask_id).sum(axis=1)
    at_start = num_masked
    if setup.context.trained.block_size:
        # SDAR plans by the size of a block, part of which the prompt may hold
        num_masked = jnp.full_like(num_masked, setup.size)
    before = state.evaluations

    def planned(step):
        if sampler.counts == "linear":
            return linear_count(num_masked, setup.steps, step)
        return _from_table(setup, at_start, step)

    def step(state: _State, at, width, kept=None) -> _State:
        """One evaluation of `width` positions from `at`, and what it unmasks."""
        state, logits = _evaluate(setup, state, start, at, width, kept)
        return _unmask(setup, state, logits, start, planned(state.evaluations - before))

    def any_masked(state: _State):
        return _any_masked(setup, state, start).any()

    def whole(state: _State) -> _State:
        return step(state, 0, length)

    if sampler.cache in ("none", "features"):
        return jax.lax.while_loop(any_masked, whole, state)
    if sampler.cache == "sub_block":
        return jax.lax.while_loop(
            any_masked,
            lambda state: _sub_block_step(setup, state, start, planned(state.evaluations - before)),
            state,
        )
    state = jax.lax.cond(any_masked(state), whole, lambda state: state, state)
    return jax.lax.while_loop(any_masked, lambda state: _cached_step(setup, step, state, start), state)


def _from_table(setup: _Setup, num_masked: Int[Array, "B"], step: Int[Array, "B"]) -> Int[Array, "B"]:
    """The count of a step, by how many blocks share the row's steps and how many masks its block began with."""
    sampler, most = setup.sampler, -(-setup.free.shape[1] // setup.size)
    steps = tuple(max(sampler.steps // blocks, 1) for blocks in range(1, most + 1))
    table = jnp.asarray(count_table(sampler.counts, setup.size, steps))
    blocks = jnp.clip(setup.own_blocks, 1, most)
    return table[blocks - 1, num_masked, jnp.minimum(step, table.shape[2] - 1)]


def _fill_after_stop(setup: _Setup, state: _State, stop: int) -> _State:
    ended = (setup.free & (state.tokens == stop)).any(axis=1, keepdims=True)
    waits = (state.tokens == setup.network.mask_id) & ended
    return state._replace(tokens=jnp.where(waits, stop, state.tokens))


def _cached_step(setup: _Setup, step, state: _State, start) -> _State:
    """A step that reads the block (dual), or the block and all that follows (prefix), from the cache for the rest."""
    sampler, size, length = setup.sampler, setup.size, setup.free.shape[1]
    one_block = not (sampler.block_size or setup.context.trained.block_size)
    kept = jnp.tile(setup.own_first, setup.network.copies) if one_block else start
    if sampler.cache == "dual":
        return step(state, start, size, kept if one_block else None)
    # widths double, so that few programs serve all blocks: what is read before the block stays as it was
    widths = [min(size * 2**power, length) for power in range((-(-length // size) - 1).bit_length() + 1)]
    branches = [partial(step, at=length - width, width=width, kept=kept) for width in widths]
    return jax.lax.switch(sum((length - start > width) * 1 for width in widths[:-1]), branches, state)


def _sub_block_step(setup: _Setup, state: _State, start, planned) -> _State:
    """A step of Fast-dLLM v2: rows whose block begins with a mask read everything, the others the block alone.

    Each row keeps the keys and values of its own way, so that it is the same alone and in a batch.
    """
    anew = (_part(setup, state.tokens, start)[:, 0] == setup.network.mask_id) | ~state.has_block
    nothing = state, jnp.zeros((*anew.shape, setup.size, setup.network.mask_id))

    def whole():
        return _evaluate(setup, state, start, 0, setup.free.shape[1], None)

    def block_alone():
        return _evaluate(setup, state, start, start, setup.size, start)

    (all_read, all_logits), (part_read, part_logits) = (
        jax.lax.cond(anew.any(), whole, lambda: nothing),
        jax.lax.cond(anew.all(), lambda: nothing, block_alone),
    )
    rows = jnp.tile(anew, setup.network.copies)

    def of_each_row(one, other):  # [.., B, G, M, d]
        return jnp.where(rows[:, None, None, None], one, other)

    layers = jax.tree.map(of_each_row, all_read.cache.layers, part_read.cache.layers)
    state = state._replace(cache=state.cache._replace(layers=layers), has_block=state.has_block | anew)
    return _unmask(setup, state, jnp.where(anew[:, None, None], all_logits, part_logits), start, planned)


def _lead(setup: _Setup, state: _State) -> _State:
    """The likeliest first token of the row, where it is a mask: one position is read."""
    network, masked = setup.network, state.tokens[:, 0] == setup.network.mask_id
    hidden, _ = read(network, network.cache, state.tokens, masked_share(network, state.tokens), 0, 1)
    logits = logits_of(network, hidden[:, 0]).at[:, jnp.array(setup.sampler.suppress, jnp.int32)].set(-jnp.inf)
    nats = jax.nn.log_softmax(logits, axis=-1).max(axis=-1)

    def put(field, new):
        return field.at[:, 0].set(jnp.where(masked, new, field[:, 0]))

    return state._replace(
        tokens=put(state.tokens, logits.argmax(axis=-1).astype(jnp.int32)),
        step=put(state.step, state.evaluations),
        nats=put(state.nats, nats),
        evaluations=state.evaluations + masked,
    )


def _evaluate(setup: _Setup, state: _State, start, at, width, kept) -> tuple[_State, Float[Array, "B size V"]]:
    """The logits of the block by one evaluation that reads `width` positions from `at`. What stands before `kept` stays
    in the cache as it is."""
    sampler, network = setup.sampler, setup.network
    cache: Any = network.cache if sampler.cache == "none" else state.cache
    if kept is not None:  # counted as a position of the cache
        cache = cache._replace(kept=network.start + kept + network.shift)
    if sampler.cache == "features":
        cache = with_active(cache, _any_masked(setup, state, start))
    hidden, cache = read(network, cache, state.tokens, masked_share(network, state.tokens), at, width)
    if sampler.cache != "none":
        state = state._replace(cache=cache if kept is None else cache._replace(kept=None))
    logits = logits_of(network, _part(setup, hidden, start - at))
    return state, logits.at[..., jnp.array(sampler.suppress, jnp.int32)].set(-jnp.inf)


def _unmask(setup: _Setup, state: _State, logits: Float[Array, "B size V"], start, planned) -> _State:
    """The block with the drawn tokens at the positions that the rule chooses."""
    tokens, positions = _part(setup, state.tokens, start), _part(setup, setup.positions, start)
    share = masked_share(setup.network, state.tokens)
    drawn, here, nats = jax.vmap(partial(_choose, setup))(
        setup.keys, logits, tokens, positions, planned, state.evaluations, share
    )

    def put(field, new):
        return jax.lax.dynamic_update_slice_in_dim(field, jnp.where(here, new, _part(setup, field, start)), start, 1)

    return state._replace(
        tokens=put(state.tokens, drawn),
        step=put(state.step, state.evaluations[:, None]),
        nats=put(state.nats, nats),
        evaluations=state.evaluations + (tokens == setup.network.mask_id).any(axis=1),
    )


def _choose(
    setup: _Setup,
    key: Array,
    logits: Float[Array, "size V"],
    tokens: Int[Array, "size"],
    positions: Int[Array, "size"],
    planned: Int[Array, ""],
    step: Int[Array, ""],
    share: Float[Array, ""],
) -> tuple[Int[Array, "size"], Bool[Array, "size"], Float[Array, "size"]]:
    """One row of a block: a token for each position, which positions to unmask, and the nats of each token."""
    sampler, context = setup.sampler, setup.context
    key_noise, key_order, key_anneal = (
        jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
        for key in jax.random.split(jax.random.fold_in(key, step), 3)
    )
    gumbel = partial(jax.random.gumbel, mode="high")
    noise = jax.vmap(lambda key: gumbel(key, logits.shape[1:]))(key_noise) if sampler.temperature else None
    drawn = candidates(noise, logits, context.temperature, sampler.top_k, sampler.top_p)
    confidence_logits = logits
    if sampler.upstream_compat and sampler.temperature:  # of the distribution that tokens are drawn from, as in SDAR
        confidence_logits = filtered(logits / context.temperature, sampler.top_k, sampler.top_p)
    delay = jnp.array(sampler.delay, jnp.int32)
    probs = jax.nn.softmax(confidence_logits.at[:, delay].set(-jnp.inf), axis=-1)
    confidence = CONFIDENCES[sampler.confidence](key_order, probs, drawn)
    if sampler.anneal:
        confidence = jnp.log(confidence) + sampler.anneal * share * jax.vmap(gumbel)(key_anneal)
    masked = tokens == setup.network.mask_id
    here = chosen(sampler.rule, confidence, masked, planned, context.limit, sampler.upstream_compat)
    nats = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), drawn[:, None], axis=-1)[:, 0]
    return drawn, here, nats
