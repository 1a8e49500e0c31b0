"""One token after another, each seeing those before it: left to right, or in a random order. Exact for its network."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import causal
from mdlm_jax.sampling.base import Plan, Trace, draw, reading


def autoregressive(keys: Array, model: Model, params: Any, prompt: Int[Array, "B P"], plan: Plan):
    """Left to right, for `ar`: a place reads the token before it, the first the mask. L - P evaluations."""
    order = jnp.broadcast_to(jnp.arange(plan.length), (prompt.shape[0], plan.length))
    positions = order[..., None]
    return decode(keys, model, params, prompt, order, positions, positions, plan)


def ordered(keys: Array, model: Model, params: Any, prompt: Int[Array, "B P"], plan: Plan):
    """In a random order of each row's own, for `any_order_causal`: the prompt comes first. L - P evaluations."""
    given, key_order = prompt.shape[1], jax.vmap(lambda key: jax.random.fold_in(key, plan.length))(keys)
    rest = jax.vmap(lambda key: given + jax.random.permutation(key, plan.length - given))(key_order)
    before = jnp.broadcast_to(jnp.arange(given), prompt.shape)
    return decode_in_order(keys, model, params, prompt, jnp.concatenate([before, rest], axis=1), plan)


def decode_in_order(
    keys: Array, model: Model, params: Any, prompt: Int[Array, "B P"], order: Int[Array, "B L"], plan: Plan
):
    """In this order, whose first P places are the prompt's: a query turns by (own, target), a key by (own, own)."""
    own = jnp.concatenate([jnp.full_like(order[:, :1], -1), order[:, :-1]], axis=1)
    positions, key_positions = jnp.stack([own, order], axis=-1), jnp.stack([own, own], axis=-1)
    return decode(keys, model, params, prompt, order, positions, key_positions, plan)


def decode(keys, model, params, prompt, order, positions, key_positions, plan: Plan) -> tuple[Array, Trace]:
    """Reads the mask and the prompt in one pass, then a token at a time with the cache."""
    first = 0 if plan.reads_start else 1
    said = (params, prompt, order, positions, key_positions, jnp.float32(plan.temperature))
    return _decode(keys, *said, model=model, first=first, top_k=plan.top_k, top_p=plan.top_p)


@partial(jax.jit, static_argnames=("model", "first", "top_k", "top_p"))
def _decode(
    keys, params, prompt, order, positions, key_positions, temperature, *, model: Model, first: int, top_k, top_p
):
    (batch, given), length = prompt.shape, order.shape[1]

    def step(cache, tokens, positions, key_positions, place):
        view = reading(tokens, positions, key_positions, jnp.zeros(batch))
        hidden, cache = model.hidden(params, view, causal, cache=cache)
        keys_here = jax.vmap(jax.random.fold_in)(keys, place)
        return cache, *draw(keys_here, model.head(params, hidden[:, -1]), temperature, top_k, top_p)

    def body(carry, inputs):
        cache, token = carry
        cache, token, log_probability = step(cache, token[:, None], *inputs)
        return (cache, token), (token, log_probability)

    start = jnp.full((batch, 1), model.architecture.vocab_size, jnp.int32)
    read = jnp.concatenate([start, prompt], axis=1)
    known = slice(first, given + 1)
    cache, token, log_probability = step(
        model.empty_cache(batch, length), read[:, known], positions[:, known], key_positions[:, known], order[:, given]
    )
    one_by_one = (
        positions[:, given + 1 :, None].swapaxes(0, 1),
        key_positions[:, given + 1 :, None].swapaxes(0, 1),
        order[:, given + 1 :].swapaxes(0, 1),
    )
    _, (tokens, log_probabilities) = jax.lax.scan(body, (cache, token), one_by_one)

    def in_place(before, one, others):
        """(B, P), (B,) and (L - P - 1, B) in the order of reading, to (B, L) in the order of the text."""
        values = jnp.concatenate([before, one[:, None], others.swapaxes(0, 1)], axis=1)
        return jnp.zeros_like(values).at[jnp.arange(batch)[:, None], order].set(values)

    num_drawn = length - given
    steps = jnp.broadcast_to(jnp.arange(num_drawn, dtype=jnp.int32)[:, None], (num_drawn, batch))
    trace = Trace(
        step=in_place(jnp.full((batch, given), -1, jnp.int32), steps[0], steps[1:]),
        log_probability=in_place(jnp.zeros((batch, given)), log_probability, log_probabilities),
        evaluations=jnp.full(batch, num_drawn, jnp.int32),
    )
    return in_place(prompt, token, tokens), trace
