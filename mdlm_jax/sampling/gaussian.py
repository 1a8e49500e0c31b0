"""Gaussian diffusion of embedded tokens run backwards: from noise to vectors near those of tokens, then to tokens."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.objectives.base import full
from mdlm_jax.objectives.gaussian import LOG_SNR, embedding, estimate, evidence
from mdlm_jax.processes.gaussian_vectors import reverse_step
from mdlm_jax.sampling.base import Plan, Trace, TracedArguments, draw
from mdlm_jax.sampling.network import Network, logits_of, reading


def gaussian(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """T equal steps of t by ancestral sampling (VDM, arXiv 2107.00630, section 4.2), then each token from its vector.

    All tokens are placed in the last step; T evaluations a row. The prompt is shown without noise.
    """
    (batch, length), vectors, num_steps = (
        tokens.shape,
        embedding(traced.objective_params),
        plan.steps or tokens.shape[1],
    )
    times, free = jnp.linspace(1.0, 0.0, num_steps + 1), tokens == network.mask_id
    positions = jnp.broadcast_to(jnp.arange(length)[None, :, None], (batch, length, 1))

    def with_prompt(noisy):
        return jnp.where(free[..., None], noisy, vectors[jnp.where(free, 0, tokens)])

    def next_step(index, noisy):
        t, (now, after) = times[index], LOG_SNR(times[index + jnp.arange(2)])
        view = reading(tokens, positions, positions, jnp.full(batch, t))._replace(noisy=noisy)
        hidden, _ = network.model.hidden(network.params, view, full)
        x = estimate(vectors, logits_of(network, hidden), noisy, now[None, None])
        keys_here = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        return with_prompt(jax.vmap(reverse_step, (0, 0, 0, None, None))(keys_here, noisy, x, after[None], now[None]))

    keys_start, keys_tokens = jnp.unstack(
        jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, num_steps)))(keys), axis=1
    )
    start = with_prompt(jax.vmap(lambda key: jax.random.normal(key, (length, vectors.shape[1])))(keys_start))
    noisy = jax.lax.fori_loop(0, num_steps, next_step, start)
    logits = evidence(vectors, noisy, LOG_SNR(times[-1:])[None])
    keys_positions = jax.vmap(lambda key: jax.random.split(key, length))(keys_tokens)
    drawn, nats = jax.vmap(draw, (1, 1, None), 1)(keys_positions, logits, traced.temperature)
    trace = Trace(
        step=jnp.broadcast_to(jnp.where(free, num_steps - 1, -1), tokens.shape).astype(jnp.int32),
        log_probability=jnp.where(free, nats, 0),
        evaluations=jnp.full(batch, num_steps, jnp.int32),
    )
    return jnp.where(free, drawn, tokens), trace
