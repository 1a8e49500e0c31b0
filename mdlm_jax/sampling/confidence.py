"""Decoding by confidence: block after block, the network reads all tokens, and the surest of the hidden are kept.

LLaDA's remasking, margin and entropy orders, Fast-dLLM's parallel decoding and EB-Sampler are choices of the plan: what
confidence is, the rule of how many are kept, and what the network is spared of reading again.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.errors import UserError
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling.base import Plan, Trace, canvas, reading
from mdlm_jax.sampling.placing import CONFIDENCES, RULES, best, candidates, planned_of

CACHES = ("none", "prefix", "dual")
CHOICES = {"confidence": tuple(CONFIDENCES), "rule": tuple(RULES), "cache": CACHES}
ARGUMENTS = (*CHOICES, "block_size", "limit", "guidance", "suppress", "delay", "stop")


class _State(NamedTuple):
    tokens: Array  # i32[B, L]
    when: Array  # i32[B, L]
    nats: Array  # f32[B, L], log probability
    evaluations: Array  # i32[B]: steps that found something hidden; a row's own clock, whatever the others do
    cache: Any


def confidence(keys: Array, model: Model, params: Any, prompt: Int[Array, "B P"], plan: Plan) -> tuple[Array, Trace]:
    """Blocks of `block_size` from left to right; in each, steps until nothing is hidden, or, by quota, its share of
    `steps`.

    `cache`: none; dual, keys and values of all other blocks are as they were when the block was begun (Fast-dLLM);
    prefix, those of the blocks before it. `guidance` w: logits are u + (w + 1) (c - u), u those without the prompt
    (SMDM, arXiv 2410.18514, section 4.2). Tokens in `suppress` are never drawn, those in `delay` are kept last. After a
    block with the token `stop`, the rest of a row is filled with it.
    """
    first = first_free(np.asarray(prompt), model.architecture.vocab_size)
    size = plan.block_size or plan.length - first
    steps = max((plan.steps or plan.length - first) // ((plan.length - first) // size), 1)
    numbers = (jnp.float32(number or 0) for number in (plan.temperature, plan.limit, plan.guidance))
    # compiled once for all temperatures but 0, all limits, all weights but 0
    fixed = plan._replace(temperature=float(plan.temperature > 0), limit=None, guidance=float(plan.guidance != 0))
    fixed = fixed._replace(answer=None, phi=(), schedule=Plan._field_defaults["schedule"])
    return _decode(keys, params, prompt, *numbers, model=model, plan=fixed, first=first, size=size, steps=steps)


def first_free(prompt: Int[np.ndarray, "B P"], mask_id: int) -> int:
    """Where the first block of all rows begins: behind the prompt, or at the first hidden token inside it."""
    hidden = (prompt == mask_id).any(axis=0)
    return int(hidden.argmax()) if hidden.any() else prompt.shape[1]


def check(plan: Plan, prompt: Int[np.ndarray, "B P"], vocab_size: int) -> None:
    """Raises UserError for an argument that cannot be followed after this prompt."""
    free = plan.length - first_free(prompt, vocab_size)
    for name, accepted in CHOICES.items():
        if getattr(plan, name) not in accepted:
            raise UserError(f"{name} {getattr(plan, name)!r}: accepted are {', '.join(accepted)}")
    if plan.block_size is not None and (plan.block_size < 1 or free % plan.block_size):
        raise UserError(
            f"block_size {plan.block_size}: accepted is a divisor of the {free} tokens from the first to draw"
        )
    num_blocks = free // (plan.block_size or free)
    if plan.steps is not None and plan.rule != "quota":
        raise UserError(f"steps {plan.steps}: {plan.rule} takes as many as it needs; accepted with quota")
    if plan.steps is not None and plan.steps % num_blocks:
        raise UserError(f"steps {plan.steps}: accepted is a multiple of the {num_blocks} blocks")
    if (plan.limit is None) != (plan.rule == "quota"):
        raise UserError(f"limit {plan.limit}: accepted is a number with rule threshold, factor or entropy_bound")
    if plan.limit is not None and not plan.limit >= 0:
        raise UserError(f"limit {plan.limit}: accepted is 0 or more")
    if plan.rule == "entropy_bound" and plan.confidence != "entropy":
        raise UserError(f"confidence {plan.confidence}: entropy_bound adds up entropies; accepted: entropy")
    if plan.guidance and not (prompt < vocab_size).any():
        raise UserError(f"guidance {plan.guidance}: there is no prompt to be guided by; accepted: 0")
    named = (*plan.suppress, *plan.delay, *(() if plan.stop is None else (plan.stop,)))
    if any(not 0 <= token < vocab_size for token in named):
        raise UserError(f"suppress, delay or stop names a token of {named}; accepted: 0 to {vocab_size - 1}")


@partial(jax.jit, static_argnames=("model", "plan", "first", "size", "steps"))
def _decode(
    keys, params, prompt, temperature, limit, guidance, *, model: Model, plan: Plan, first: int, size: int, steps: int
):
    batch, mask_id, length = len(prompt), model.architecture.vocab_size, plan.length
    places = jnp.broadcast_to(jnp.arange(length)[None, :, None], (batch, length, 1))
    tokens, free = canvas(prompt, length, mask_id)
    guided = plan.guidance != 0

    def part(field, start, width):
        return jax.lax.dynamic_slice_in_dim(field, start, width, axis=1)

    def logits_of(tokens, start, width, at, cache):
        """Logits of the block's places `at`, the network reading `width` places from `start`; guided by two rows each,
        one without what is given."""
        where = places
        if guided:
            tokens = jnp.concatenate([tokens, jnp.where(free, tokens, mask_id)])
            where = jnp.concatenate([places, places])
        share = (tokens == mask_id).mean(axis=1)
        read, where = part(tokens, start, width), part(where, start, width)
        cache = None if cache is None else cache._replace(length=start)
        out, cache = model.hidden(params, reading(read, where, where, share), full, cache=cache)
        logits = model.head(params, part(out, at - start, size))
        if guided:
            with_prompt, without = jnp.split(logits, 2)
            logits = without + (guidance + 1) * (with_prompt - without)
        return logits.at[..., jnp.array(plan.suppress, jnp.int32)].set(-jnp.inf), cache

    def place(state: _State, logits, start, planned) -> _State:
        """Tokens for the hidden places of the block: those that the rule keeps."""

        def one_row(key, logits, tokens, planned, step):
            key_noise, key_order = jax.random.split(jax.random.fold_in(key, step))
            noise = jax.random.gumbel(key_noise, logits.shape, mode="high") if plan.temperature else None
            drawn = candidates(noise, logits, temperature, plan.top_k, plan.top_p)
            law = jax.nn.softmax(logits.at[:, jnp.array(plan.delay, jnp.int32)].set(-jnp.inf), axis=-1)
            sure = CONFIDENCES[plan.confidence](key_order, law, drawn)
            kept = best(plan.rule, sure, tokens == mask_id, planned, limit)
            nats = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), drawn[:, None], axis=-1)[:, 0]
            return drawn, kept, nats

        old = part(state.tokens, start, size)
        drawn, kept, nats = jax.vmap(one_row)(keys, logits, old, planned, state.evaluations)

        def put(field, new):
            return jax.lax.dynamic_update_slice_in_dim(field, jnp.where(kept, new, part(field, start, size)), start, 1)

        return state._replace(
            tokens=put(state.tokens, drawn),
            when=put(state.when, state.evaluations[:, None]),
            nats=put(state.nats, nats),
            evaluations=state.evaluations + (old == mask_id).any(axis=1),
        )

    def block(state: _State, start, window) -> _State:
        """All steps of the block at `start`; after the first, the network reads `window` places from it."""
        if plan.stop is not None:
            ended = (free & (state.tokens == plan.stop)).any(axis=1, keepdims=True)
            waits = (state.tokens == mask_id) & ended
            state = state._replace(tokens=jnp.where(waits, plan.stop, state.tokens))
        hidden = (part(state.tokens, start, size) == mask_id).sum(axis=1)
        before = state.evaluations

        def planned(state):
            return planned_of(hidden, steps, state.evaluations - before)

        def whole(state: _State) -> _State:
            logits, cache = logits_of(state.tokens, 0, length, start, state.cache)
            return place(state._replace(cache=cache), logits, start, planned(state))

        def again(state: _State) -> _State:
            logits, cache = logits_of(state.tokens, start, window, start, state.cache)
            return place(state._replace(cache=cache), logits, start, planned(state))

        def any_hidden(state: _State):
            return (part(state.tokens, start, size) == mask_id).any()

        if plan.cache == "none":
            return jax.lax.while_loop(any_hidden, whole, state)
        state = jax.lax.cond(any_hidden(state), whole, lambda state: state, state)
        return jax.lax.while_loop(any_hidden, again, state)

    rows = batch * (2 if guided else 1)
    state = _State(
        tokens,
        jnp.full(tokens.shape, -1, jnp.int32),
        jnp.zeros(tokens.shape),
        jnp.zeros(batch, jnp.int32),
        None if plan.cache == "none" else model.empty_cache(rows, length),
    )
    if plan.cache == "prefix":
        # what is read again is shorter with every block: a body of its own for each
        for start in range(first, length, size):
            state = block(state, start, length - start)
    else:
        num_blocks = (length - first) // size
        state = jax.lax.fori_loop(0, num_blocks, lambda index, state: block(state, first + index * size, size), state)
    return state.tokens, Trace(state.when, state.nats, state.evaluations)
