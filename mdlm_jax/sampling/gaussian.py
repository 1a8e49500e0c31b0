"""Gaussian diffusion of embedded tokens run backwards: from noise to vectors near those of tokens, then to tokens."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import full
from mdlm_jax.objectives.gaussian import LOG_SNR, embedding, estimate, evidence
from mdlm_jax.processes.gaussian import reverse_step
from mdlm_jax.sampling.base import Plan, Trace, canvas, draw, reading


def gaussian(keys: Array, model: Model, params: Any, prompt: Int[Array, "B P"], plan: Plan) -> tuple[Array, Trace]:
    """T equal steps of t by ancestral sampling (VDM, arXiv 2107.00630, section 4.2), then each token from its vector.

    All tokens are placed in the last step; T evaluations a row. The prompt is shown without noise.
    """
    times, temperature = jnp.linspace(1.0, 0.0, (plan.steps or plan.length) + 1), jnp.float32(plan.temperature)
    return _walk(keys, params, plan.phi, prompt, times, temperature, model=model, length=plan.length)


@partial(jax.jit, static_argnames=("model", "length"))
def _walk(keys, params, phi, prompt, times, temperature, *, model: Model, length: int):
    batch, vectors, num_steps = len(prompt), embedding(phi), len(times) - 1
    tokens, free = canvas(prompt, length, model.architecture.vocab_size)
    places = jnp.broadcast_to(jnp.arange(length)[None, :, None], (batch, length, 1))

    def with_prompt(noisy):
        return jnp.where(free[..., None], noisy, vectors[jnp.where(free, 0, tokens)])

    def next_step(index, noisy):
        t, (now, after) = times[index], LOG_SNR(times[index + jnp.arange(2)])
        view = reading(tokens, places, places, jnp.full(batch, t))._replace(noisy=noisy)
        hidden, _ = model.hidden(params, view, full)
        x = estimate(vectors, model.head(params, hidden), noisy, now[None, None])
        keys_here = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        return with_prompt(jax.vmap(reverse_step, (0, 0, 0, None, None))(keys_here, noisy, x, after[None], now[None]))

    keys_start, keys_tokens = jnp.unstack(
        jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, num_steps)))(keys), axis=1
    )
    start = with_prompt(jax.vmap(lambda key: jax.random.normal(key, (length, vectors.shape[1])))(keys_start))
    noisy = jax.lax.fori_loop(0, num_steps, next_step, start)
    logits = evidence(vectors, noisy, LOG_SNR(times[-1:])[None])
    keys_places = jax.vmap(lambda key: jax.random.split(key, length))(keys_tokens)
    drawn, nats = jax.vmap(draw, (1, 1, None), 1)(keys_places, logits, temperature)
    trace = Trace(
        step=jnp.broadcast_to(jnp.where(free, num_steps - 1, -1), tokens.shape).astype(jnp.int32),
        log_probability=jnp.where(free, nats, 0),
        evaluations=jnp.full(batch, num_steps, jnp.int32),
    )
    return jnp.where(free, drawn, tokens), trace
