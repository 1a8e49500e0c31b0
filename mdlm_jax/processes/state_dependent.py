"""Absorbing noise whose rate depends on the token: GenMD4 (arXiv 2406.04329, section 6)."""

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from mdlm_jax.errors import UserError
from mdlm_jax.processes.base import Process, check_time


def powers(vocab: int, power: Float[Array, "V"]) -> Process:
    """Masks token v with probability t ** power[v]. At t = 1 every token is masked.

    Args:
        vocab: Number of tokens V, without the mask.
        power: The power of each token, above 0; traced values are not checked.

    Raises:
        UserError: A power is 0 or less.
    """
    if not isinstance(power, Tracer) and not bool((power > 0).all()):
        raise UserError(f"power: from {float(power.min()):g}; accepted: above 0")

    def masked(t):
        return t[..., None] ** power

    def sample(key, x, t):
        check_time("t", t)
        return jnp.where(jax.random.uniform(key, x.shape) < t ** power[x], vocab, x)

    def forward(probs, t):
        check_time("t", t)
        lost = masked(t) * probs
        return jnp.concatenate([probs - lost, lost.sum(axis=-1, keepdims=True)], axis=-1)

    def backward(z, s, t):
        check_time("s", s)
        check_time("t", t)
        # 1 - alpha_t / alpha_s of each token; at s = 0 nothing is masked yet
        lost = (masked(t) - masked(s)) / jnp.maximum(1 - masked(s), 1e-30)
        into_mask = jnp.concatenate([lost, jnp.ones_like(lost[..., :1])], axis=-1)
        state = jnp.arange(vocab + 1)
        stays = jnp.where((state == z[..., None]) & (state < vocab), 1 - into_mask, 0)
        return jnp.where((z == vocab)[..., None], into_mask, stays)

    def leaving(t):
        """-alpha' / alpha of each token."""
        return power * t[..., None] ** (power - 1) / jnp.maximum(1 - masked(t), 1e-30)

    def rate(z, t):
        check_time("t", t)
        into_mask = jnp.concatenate([leaving(t), jnp.zeros_like(t)[..., None]], axis=-1)
        return jnp.where((z == vocab)[..., None], into_mask, 0)

    def exit(x, t):
        check_time("t", t)
        at_x = power[jnp.minimum(x, vocab - 1)]
        return jnp.where(x == vocab, 0, at_x * t ** (at_x - 1) / jnp.maximum(1 - t**at_x, 1e-30))

    return Process(
        vocab,
        vocab + 1,
        jnp.zeros(vocab + 1).at[vocab].set(1),
        lambda x: jnp.zeros(x.shape),
        sample,
        forward,
        backward,
        rate,
        exit,
        lambda key, x, t: jnp.full_like(x, vocab),
    )
