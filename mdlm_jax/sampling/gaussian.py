"""Gaussian diffusion of embeddings in reverse: from noise to vectors near those of tokens, then to tokens."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdlm_jax.objectives.base import Objective, full
from mdlm_jax.objectives.gaussian import LOG_SNR, embedding, estimate, evidence
from mdlm_jax.processes.gaussian_vectors import reverse_step
from mdlm_jax.sampling.base import Context, Request, Trace
from mdlm_jax.sampling.drawing import draw
from mdlm_jax.sampling.network import Network, logits_of, reading


class Gaussian(NamedTuple):
    """T equal steps of t by ancestral sampling in the space of embeddings, then each token from its vector.

    The last step draws all tokens; T evaluations per row. The prompt is shown without noise.

    Reference: VDM (arXiv 2107.00630, section 4.2).
    """

    temperature: float = 1.0  # of the tokens, given their vectors; 0 takes the nearest
    steps: int | None = None  # T; None: one per token

    cannot = frozenset({"pad", "blocks"})

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return objective.inputs > 0

    def check(self, request: Request) -> None:
        """All fields are checked by name."""

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        (batch, length), num_steps = tokens.shape, self.steps or tokens.shape[1]
        vectors = embedding(context.trained.objective_params)
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
            moved = jax.vmap(reverse_step, (0, 0, 0, None, None))(keys_here, noisy, x, after[None], now[None])
            return with_prompt(moved)

        keys_start, keys_tokens = jnp.unstack(
            jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, num_steps)))(keys), axis=1
        )
        start = with_prompt(jax.vmap(lambda key: jax.random.normal(key, (length, vectors.shape[1])))(keys_start))
        noisy = jax.lax.fori_loop(0, num_steps, next_step, start)
        logits = evidence(vectors, noisy, LOG_SNR(times[-1:])[None])
        keys_positions = jax.vmap(lambda key: jax.random.split(key, length))(keys_tokens)
        drawn, nats = jax.vmap(draw, (1, 1, None), 1)(keys_positions, logits, context.temperature)
        trace = Trace(
            step=jnp.broadcast_to(jnp.where(free, num_steps - 1, -1), tokens.shape).astype(jnp.int32),
            log_probability=jnp.where(free, nats, 0),
            evaluations=jnp.full(batch, num_steps, jnp.int32),
        )
        return jnp.where(free, drawn, tokens), trace
