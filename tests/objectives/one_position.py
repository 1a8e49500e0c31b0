"""One position of V tokens, enumerated: every token, every state it may have become, and a network's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from mdlm_jax.objectives.base import View

V = 3


TIMES = (0.1, 0.5, 0.93)


def transitions(process, t):
    """f64[V, S]: q(z | x)."""
    return np.asarray(process.forward(jnp.eye(process.vocab), jnp.float64(t)))


def rates(process, t):
    """f64[z, y]: from y into z."""
    return np.asarray(process.rate(jnp.arange(process.states), jnp.full(process.states, t)))


def every_case(process, t, logits_seed=1):
    """One position at t: every x and z that can be, with a network's logits, as (view, logits)."""
    x, z = np.indices((V, process.states)).reshape(2, -1)
    possible = transitions(process, t)[x, z] > 0
    x, z = (jnp.asarray(each[possible], jnp.int32) for each in (x, z))
    logits = np.random.default_rng(logits_seed).normal(size=(process.states, V))[z]
    return view_of(z, x, t), jnp.asarray(logits)


@functools.cache
def loss_of(objective):
    return jax.jit(functools.partial(objective.token_loss, ()))


def view_of(z, x, t):
    positions = jnp.arange(len(x))[:, None]
    return View(z, x, jnp.ones(len(x)), jnp.full(1, t), positions, positions, jnp.ones_like(x), jnp.float64(0))


def softmax(logits):
    return np.exp(log_softmax(np.asarray(logits), axis=-1))
