"""The exact bound of every sequence of a toy distribution at once."""

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.exact.expectation import nats_at


def bounds(objective, oracle, sequences, times, weights, objective_params=()):
    """f64[n]: the sum over times of weight x mean loss, and the prior's nats, of every sequence."""
    with jax.enable_x64(True):
        x = jnp.asarray(sequences)
        at_time = jax.vmap(lambda x, t: nats_at(objective, oracle, x, t, objective_params), (0, None))
        nats = jax.jit(lambda times: jax.lax.map(lambda t: at_time(x, t), times))(jnp.asarray(times, jnp.float64))
        prior = objective.parameterization(objective_params).process.prior_and_reconstruction_loss(x).sum(axis=1)
        return np.asarray(jnp.asarray(weights) @ nats + prior)


def table(seed, states, length, vocab, scale=1.0):
    """Any network: logits f64[L, V] of every z, which belong to no joint distribution."""
    logits = np.random.default_rng(seed).normal(scale=scale, size=(states,) * length + (length, vocab))
    return lambda view: jnp.asarray(logits)[tuple(view.tokens[:length])]
