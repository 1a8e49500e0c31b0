"""Decoding by confidence: block after block, the network reads all tokens, and the surest of the hidden are kept.

LLaDA's remasking, margin and entropy orders, Fast-dLLM's parallel decoding, EB-Sampler and dLLM-Cache are choices of
the plan: what confidence is, the rule of how many are kept, and what the network is spared of reading again.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.errors import UserError
from mdlm_jax.models.feature_cache import Reuse
from mdlm_jax.sampling.base import BUCKET, Plan, Trace, TracedArguments, filtered
from mdlm_jax.sampling.network import Network, hidden_share, logits_of, new_cache, new_features, positions_of, read
from mdlm_jax.sampling.placing import CONFIDENCES, PLANNED, RULES, best, candidates, planned_of

CACHES = ("none", "prefix", "dual", "features")
OF_FEATURES = {"prompt_interval": 100, "response_interval": 7, "update_share": 0.25}  # dLLM-Cache's own demonstration
CHOICES = {"confidence": tuple(CONFIDENCES), "rule": tuple(RULES), "cache": CACHES}
ARGUMENTS = (*CHOICES, *OF_FEATURES, "block_size", "limit", "anneal", "suppress", "delay")


class _State(NamedTuple):
    tokens: Array  # i32[B, L]
    when: Array  # i32[B, L]
    nats: Array  # f32[B, L], log probability
    evaluations: Array  # i32[B]: steps that found something hidden; a row's own clock, whatever the others do
    cache: Any


def confidence(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """Blocks of `block_size` from left to right; in each, steps until nothing is hidden, or, by quota, its share of
    `steps`.

    `cache`: none; dual, keys and values of all other blocks are as they were when the block was begun (Fast-dLLM);
    prefix, those of the blocks before it; features, most of what a layer computes is that of earlier steps (dLLM-Cache,
    `models/feature_cache.py`). One block alone begins, in each row, with what is hidden there. Tokens in `suppress` are
    never drawn, those in `delay` are kept last. After a block with the token `stop`, the rest of a row is filled with
    it. `anneal` a: the order is by log p + a t Gumbel, t the share that is hidden (MaskGIT, arXiv 2202.04200).
    """
    (batch, length), mask_id, free = tokens.shape, network.mask_id, tokens == network.mask_id
    # one block is read from where the bucket of the prompt begins: what is given in it is never hidden
    start_of_one = 0 if plan.trained_blocks else max(plan.bucket - BUCKET, 0)
    size = plan.block_size or length - start_of_one
    in_blocks, one_block = plan.block_size and not plan.trained_blocks, not (plan.block_size or plan.trained_blocks)
    first = traced.first if in_blocks else start_of_one
    num_blocks = (length - first) // size
    # in a row that begins later there are fewer blocks
    own_first = free.argmax(axis=1)
    own_blocks = -(-(length - own_first) // size) if in_blocks else num_blocks
    steps = jnp.maximum((plan.steps or length - traced.first) // own_blocks, 1)
    positions = positions_of(network, tokens)

    def part(field, start):
        return jax.lax.dynamic_slice_in_dim(field, start, size, axis=1)

    def logits_from(hidden):
        return logits_of(network, hidden).at[..., jnp.array(plan.suppress, jnp.int32)].set(-jnp.inf)

    def position(state: _State, logits, start, planned) -> _State:
        """Tokens for the hidden positions of the block: those that the rule keeps."""

        def one_row(key, logits, tokens, positions, planned, step, share):
            key_noise, key_order, key_anneal = (
                jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
                for key in jax.random.split(jax.random.fold_in(key, step), 3)
            )
            gumbel = partial(jax.random.gumbel, mode="high")
            noise = jax.vmap(lambda key: gumbel(key, logits.shape[1:]))(key_noise) if plan.temperature else None
            drawn = candidates(noise, logits, traced.temperature, plan.top_k, plan.top_p)
            said = logits
            if plan.upstream_compat and plan.temperature:  # how sure it is of what it draws from, as SDAR has it
                said = filtered(logits / traced.temperature, plan.top_k, plan.top_p)
            probs = jax.nn.softmax(said.at[:, jnp.array(plan.delay, jnp.int32)].set(-jnp.inf), axis=-1)
            sure = CONFIDENCES[plan.confidence](key_order, probs, drawn)
            if plan.anneal:
                sure = jnp.log(sure) + plan.anneal * share * jax.vmap(gumbel)(key_anneal)
            kept = best(plan.rule, sure, tokens == mask_id, planned, traced.limit, plan.upstream_compat)
            nats = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), drawn[:, None], axis=-1)[:, 0]
            return drawn, kept, nats

        old, share = part(state.tokens, start), hidden_share(network, state.tokens)
        drawn, kept, nats = jax.vmap(one_row)(
            keys, logits, old, part(positions, start), planned, state.evaluations, share
        )

        def put(field, new):
            return jax.lax.dynamic_update_slice_in_dim(field, jnp.where(kept, new, part(field, start)), start, 1)

        return state._replace(
            tokens=put(state.tokens, drawn),
            when=put(state.when, state.evaluations[:, None]),
            nats=put(state.nats, nats),
            evaluations=state.evaluations + (old == mask_id).any(axis=1),
        )

    def block(state: _State, start) -> _State:
        """All steps of the block at `start`."""
        if plan.stop is not None:
            ended = (free & (state.tokens == plan.stop)).any(axis=1, keepdims=True)
            waits = (state.tokens == mask_id) & ended
            state = state._replace(tokens=jnp.where(waits, plan.stop, state.tokens))
        hidden = (part(state.tokens, start) == mask_id).sum(axis=1)
        # SDAR plans by the size of a block, of which a prompt may hold a part
        hidden, before = jnp.full_like(hidden, size) if plan.trained_blocks else hidden, state.evaluations

        def step(state: _State, at, width, kept=None) -> _State:
            """By one evaluation that reads `width` positions from `at`."""
            cache = network.cache if plan.cache == "none" else state.cache
            if kept is not None:  # told as a position of the cache
                cache = cache._replace(kept=network.start + kept + network.shift)
            if plan.cache == "features":
                waits = (part(state.tokens, start) == mask_id).any(axis=1)
                cache = cache._replace(active=jnp.tile(waits, network.copies))
            out, cache = read(network, cache, state.tokens, hidden_share(network, state.tokens), at, width)
            if plan.cache != "none":
                state = state._replace(cache=cache if kept is None else cache._replace(kept=None))
            logits = logits_from(part(out, start - at))
            return position(state, logits, start, planned_of(hidden, steps, state.evaluations - before))

        def any_hidden(state: _State):
            return (part(state.tokens, start) == mask_id).any()

        def whole(state: _State) -> _State:
            return step(state, 0, length)

        def again(state: _State) -> _State:
            kept = jnp.tile(own_first, network.copies) if one_block else start
            if plan.cache == "dual":
                return step(state, start, size, kept if one_block else None)
            # widths double, so that few programs serve all blocks: what is read before the block stays as it was
            branches = [partial(step, at=length - width, width=width, kept=kept) for width in widths]
            return jax.lax.switch(sum((length - start > width) * 1 for width in widths[:-1]), branches, state)

        if plan.cache in ("none", "features"):
            return jax.lax.while_loop(any_hidden, whole, state)
        state = jax.lax.cond(any_hidden(state), whole, lambda state: state, state)
        return jax.lax.while_loop(any_hidden, again, state)

    widths = [min(size * 2**power, length) for power in range((-(-length // size) - 1).bit_length() + 1)]
    cache = None
    if plan.cache == "features":
        cache = new_features(network, _reuse(plan))
    elif plan.cache != "none":
        cache = new_cache(network) if network.cache is None else network.cache
    state = _State(
        tokens, jnp.full(tokens.shape, -1, jnp.int32), jnp.zeros(tokens.shape), jnp.zeros(batch, jnp.int32), cache
    )
    state = jax.lax.fori_loop(0, num_blocks, lambda index, state: block(state, first + index * size), state)
    return state.tokens, Trace(state.when, state.nats, state.evaluations)


def _said_of_features(plan: Plan) -> dict[str, int | float]:
    return {name: getattr(plan, name) for name in OF_FEATURES if getattr(plan, name) is not None}


def _reuse(plan: Plan) -> Reuse:
    """What is fixed of a cache of features; the bucket is then the prompt itself."""
    prompt_interval, response_interval, share = (OF_FEATURES | _said_of_features(plan)).values()
    return Reuse(plan.bucket, prompt_interval, response_interval, max(int((plan.length - plan.bucket) * share), 1))


def _begins(prompt: Int[np.ndarray, "B P"], mask_id: int) -> Int[np.ndarray, "B"]:
    """The first position of each row that is to be drawn."""
    hidden = prompt == mask_id
    return np.where(hidden.any(axis=1), hidden.argmax(axis=1) if prompt.size else 0, prompt.shape[1])


def check(plan: Plan, prompt: Int[np.ndarray, "B P"], vocab_size: int) -> None:
    """Raises UserError for an argument that cannot be followed after this prompt."""
    begins = _begins(prompt, vocab_size)
    free = plan.trained_blocks or plan.length - int(begins.min())
    for name, accepted in CHOICES.items():
        if getattr(plan, name) not in accepted:
            raise UserError(f"{name} {getattr(plan, name)!r}: accepted are {', '.join(accepted)}")
    if plan.block_size is not None and (plan.block_size < 1 or free % plan.block_size):
        what = "tokens of a block in training" if plan.trained_blocks else "tokens from the first to draw"
        if not plan.trained_blocks and 1 <= plan.block_size < free:
            what += f", or a length of {plan.length - free % plan.block_size}"
        raise UserError(f"block_size {plan.block_size}: accepted is a divisor of the {free} {what}")
    num_blocks = free // (plan.block_size or free)
    if plan.trained_blocks:
        num_blocks *= plan.length // plan.trained_blocks
    if plan.steps is not None and plan.rule not in PLANNED:
        raise UserError(f"steps {plan.steps}: {plan.rule} takes as many as it needs; accepted with quota and dynamic")
    if plan.steps is not None and plan.steps % num_blocks:
        raise UserError(f"steps {plan.steps}: accepted is a multiple of the {num_blocks} blocks")
    if (plan.limit is None) != (plan.rule == "quota"):
        raise UserError(
            f"limit {plan.limit}: accepted is a number with rule {', '.join(r for r in RULES if r != 'quota')}"
        )
    if plan.limit is not None and not plan.limit >= 0:
        raise UserError(f"limit {plan.limit}: accepted is 0 or more")
    if plan.rule == "entropy_bound" and plan.confidence != "entropy":
        raise UserError(f"confidence {plan.confidence}: entropy_bound adds up entropies; accepted: entropy")
    of_sdar = plan.trained_blocks and plan.confidence == "probability" and plan.rule in PLANNED
    if plan.upstream_compat and not of_sdar:
        accepted = f"in trained blocks, with confidence probability and rule {' or '.join(PLANNED)}"
        raise UserError(f"upstream_compat {plan.upstream_compat}: it has SDAR's errors; accepted {accepted}")
    if not plan.anneal >= 0 or (plan.anneal and (plan.confidence, plan.rule) != ("probability", "quota")):
        raise UserError(f"anneal {plan.anneal}: accepted is 0 or more, with confidence probability and rule quota")
    for name, value in _said_of_features(plan).items():
        if plan.cache != "features":
            raise UserError(f"{name} {value}: cache {plan.cache} has none; accepted with features")
        if not (0 < value <= 1 if name == "update_share" else value >= 1):
            raise UserError(f"{name} {value}: accepted is {'above 0 to' if name == 'update_share' else 'at least'} 1")
    if plan.cache == "features" and begins.min() < begins.max():
        positions = f"{begins.min()} and {begins.max()}"
        raise UserError(
            f"cache features: rows are drawn from positions {positions} on; accepted is one position for all rows"
        )
    if plan.cache == "features" and plan.trained_blocks:
        raise UserError("cache features: a network trained in blocks keeps finished ones; accepted: none, prefix, dual")
    named = (*plan.suppress, *plan.delay)
    if any(not 0 <= token < vocab_size for token in named):
        raise UserError(f"suppress or delay names a token of {named}; accepted: 0 to {vocab_size - 1}")
