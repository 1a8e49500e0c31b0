"""Noise that keeps a token, replaces it by a uniform one or masks it: absorbing, uniform, D3PM's hybrid and GIDD.

All are one formula. At time t a token is unchanged with probability `kept`, uniform over the V tokens (itself included)
with `uniform`, and the mask with `masked`; they add up to 1. From s to t it is unchanged with kept_t / kept_s. Two
families differ in the rest: in D3PM the mask absorbs; in GIDD (arXiv 2503.04482) every state, the mask included, is
resampled with the same rates (a generator of rank one).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from scipy.special import xlogy

from mdlm_jax.errors import UserError
from mdlm_jax.processes.base import Process, check_time
from mdlm_jax.schedules import Schedule, check_schedule

LOG_FLOOR = -69.0  # of what is left at the ends: a power of 0 has an infinite slope


class Amounts(NamedTuple):
    """The probabilities that a token is unchanged, uniform or masked at a time; they add up to 1."""

    kept: Float[Array, "*n"]
    uniform: Float[Array, "*n"]
    masked: Float[Array, "*n"]


class Mixture(NamedTuple):
    """The description of a mixture process."""

    amounts: Callable[[Array], Amounts]  # t -> how much of each, adding up to 1
    mask_absorbs: bool  # False: the mask is resampled like any token


def absorbing(vocab: int, schedule: Schedule) -> Process:
    """Every token is masked at t = 1: D3PM's absorbing state, MDLM, MD4, RADD, SEDD-absorb."""
    check_schedule("schedule", schedule)

    def amounts(t):
        noised = schedule(t)
        return Amounts(1 - noised, jnp.zeros_like(noised), noised)

    return mix(vocab, amounts, mask_absorbs=True)


def uniform(vocab: int, schedule: Schedule) -> Process:
    """Every token is uniform in the end; no mask: D3PM's uniform, SEDD-uniform, UDLM, Duo."""
    check_schedule("schedule", schedule)

    def amounts(t):
        noised = schedule(t)
        return Amounts(1 - noised, noised, jnp.zeros_like(noised))

    whole = mix(vocab, amounts, mask_absorbs=False)
    rate = whole.rate
    assert rate is not None
    return whole._replace(
        states=vocab,
        prior=whole.prior[:vocab],
        forward=lambda probs, t: whole.forward(probs, t)[..., :vocab],
        backward=lambda z, s, t: whole.backward(z, s, t)[..., :vocab],
        rate=lambda z, t: rate(z, t)[..., :vocab],
    )


def hybrid(vocab: int, schedule: Schedule, mask_share: float) -> Process:
    """Uniform resampling and absorption at once.

    A token is unchanged with probability 1 - schedule(t), and not masked with (1 - schedule(t)) ** mask_share.

    Args:
        vocab: Number of tokens V, without the mask.
        schedule: P(noised) at each time.
        mask_share: The part of -log P(unchanged) that comes from masking, in (0, 1).

    Raises:
        UserError: The share is out of range, or the schedule falls.

    Reference: D3PM, arXiv 2107.03006, appendix A.2.6.
    """
    check_schedule("schedule", schedule)
    if not 0 < mask_share < 1:
        raise UserError(
            f"mask_share={mask_share}; accepted: above 0 and below 1 (use uniform or absorbing at the ends)"
        )

    def amounts(t):
        noised = schedule(t)
        lives = noised < 1
        log_kept = jnp.where(lives, jnp.log1p(-jnp.where(lives, noised, 0)), LOG_FLOOR)
        masked = -jnp.expm1(mask_share * log_kept)
        return Amounts(1 - noised, noised - masked, masked)

    return mix(vocab, amounts, mask_absorbs=True)


def gidd(vocab: int, schedule: Schedule, uniform_share: float, gamma: float = 1.0) -> Process:
    """GIDD: mask noise with a bump of uniform noise around the middle.

    With m = schedule(t) and c = B (m (1 - m))^(gamma / 2), B = 2^gamma p_u / (1 - p_u): kept (1 - m) / (1 + c), uniform
    c / (1 + c), masked m / (1 + c).

    Args:
        vocab: Number of tokens V, without the mask.
        schedule: m at each time.
        uniform_share: p_u, the probability of uniform noise where m = 1/2, in (0, 1).
        gamma: The shape of the bump, in (0, 2]; above 2 the rate into the mask would be negative.

    Raises:
        UserError: A value is out of range, or the schedule falls.

    Reference: arXiv 2503.04482.
    """
    check_schedule("schedule", schedule)
    if not 0 < uniform_share < 1:
        raise UserError(f"uniform_share={uniform_share}; accepted: above 0 and below 1 (use absorbing or uniform)")
    if not 0 < gamma <= 2:
        raise UserError(f"gamma={gamma}; accepted: above 0 and at most 2, beyond which a rate is negative")
    height = 2**gamma * uniform_share / (1 - uniform_share)

    def amounts(t):
        noised = schedule(t)
        bump = height * jnp.maximum(noised * (1 - noised), math.exp(LOG_FLOOR)) ** (gamma / 2)
        return Amounts((1 - noised) / (1 + bump), bump / (1 + bump), noised / (1 + bump))

    return mix(vocab, amounts, mask_absorbs=False)


def mix(vocab: int, amounts: Callable[[Array], Amounts], mask_absorbs: bool) -> Process:
    """The process of these amounts, on V + 1 states."""

    mixture = Mixture(amounts, mask_absorbs)

    def forward(probs, t):
        check_time("t", t)
        now = amounts(t)
        real = now.kept[..., None] * probs + (now.uniform / vocab)[..., None] * probs.sum(axis=-1, keepdims=True)
        return jnp.concatenate([real, now.masked[..., None] * probs.sum(axis=-1, keepdims=True)], axis=-1)

    def backward(z, s, t):
        check_time("s", s)
        check_time("t", t)
        kept, into_real, into_mask = between(mixture, s, t, vocab)
        state = jnp.arange(vocab + 1)
        same, from_mask = state == z[..., None], state == vocab
        into_z = jnp.where(z == vocab, into_mask, into_real)[..., None]
        if mask_absorbs:
            into_z = jnp.where(from_mask, 0, into_z)
            return into_z + jnp.where(same, jnp.where(from_mask, 1, kept[..., None]), 0)
        return into_z + jnp.where(same, kept[..., None], 0)

    def rate(z, t):
        check_time("t", t)
        into_real, into_mask = rates(mixture, t, vocab)
        state = jnp.arange(vocab + 1)
        into_z = jnp.where(z == vocab, into_mask, into_real)[..., None]
        leaves = (state != z[..., None]) & ((state != vocab) | (not mask_absorbs))
        return jnp.where(leaves, into_z, 0)

    def exit(x, t):
        check_time("t", t)
        into_real, into_mask = rates(mixture, t, vocab)
        from_mask = jnp.zeros_like(into_real) if mask_absorbs else vocab * into_real
        return jnp.where(x == vocab, from_mask, (vocab - 1) * into_real + into_mask)

    def jump(key, x, t):
        into_real, into_mask = rates(mixture, t, vocab)
        key_mask, key_token = jax.random.split(key)
        to_mask = (x != vocab) & (jax.random.uniform(key_mask, x.shape) * exit(x, t) < into_mask)
        return jnp.where(to_mask, vocab, _another(key_token, x, vocab))

    with jax.ensure_compile_time_eval():
        kept, uniform, masked = (float(amount) for amount in amounts(jnp.ones(())))
        at_start = [float(amount) for amount in amounts(jnp.zeros(()))]
        prior = jnp.append(jnp.full(vocab, (kept + uniform) / vocab), masked)
    # where some token survives until t = 1: tokens are alike, so it costs the same for each
    share = uniform / vocab
    gap = xlogy(kept + share, kept + share) + (vocab - 1) * xlogy(share, share)
    gap -= xlogy(kept + uniform, (kept + uniform) / vocab)
    gap += _reading_nats(vocab, *at_start)

    def prior_and_reconstruction_loss(x):
        return jnp.full(x.shape, gap)

    sample = _sampler(vocab, amounts)
    return Process(
        vocab, vocab + 1, prior, prior_and_reconstruction_loss, sample, forward, backward, rate, exit, jump, mixture
    )


def rates(mixture: Mixture, t: Float[Array, "*n"], vocab: int) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Per unit of t: into each of the V tokens and into the mask, from any other state that can leave."""
    now, slope = jax.jvp(mixture.amounts, (t,), (jnp.ones_like(t),))
    # in float32 `kept` ends at 0 a little before t = 1
    decay = -slope.kept / jnp.maximum(now.kept, jnp.finfo(now.kept.dtype).eps)
    if mixture.mask_absorbs:
        into_mask = slope.masked / jnp.maximum(now.kept + now.uniform, jnp.finfo(now.kept.dtype).eps)
        return (decay - into_mask) / vocab, into_mask
    return (slope.uniform + decay * now.uniform) / vocab, slope.masked + decay * now.masked


def between(
    mixture: Mixture, s: Float[Array, "*n"], t: Float[Array, "*n"], vocab: int
) -> tuple[Float[Array, "*n"], Float[Array, "*n"], Float[Array, "*n"]]:
    """From s to t: P(untouched), P(into each token), P(into the mask)."""
    before, after = mixture.amounts(s), mixture.amounts(t)
    least = jnp.finfo(before.kept.dtype).tiny  # in float32 `kept` ends at 0 a little before t = 1
    kept = after.kept / jnp.maximum(before.kept, least)
    if mixture.mask_absorbs:
        unmasked_before = jnp.maximum(before.kept + before.uniform, least)
        unmasked = (after.kept + after.uniform) / unmasked_before
        return kept, (unmasked - kept) / vocab, (after.masked - before.masked) / unmasked_before
    return kept, (after.uniform - kept * before.uniform) / vocab, after.masked - kept * before.masked


def _reading_nats(vocab: int, kept: float, uniform: float, masked: float) -> float:
    """E[-log p(x_0 | x at t = 0)], the same for all tokens: 0 unless the schedule starts above 0."""
    share = uniform / vocab
    return float(-xlogy(kept + share, kept + share) - (vocab - 1) * xlogy(share, share) + masked * math.log(vocab)) + (
        float(xlogy(kept + uniform, kept + uniform))
    )


def _sampler(vocab: int, amounts: Callable) -> Callable:
    def sample(key: Array, x: Int[Array, "*n"], t: Float[Array, "*#n"]) -> Int[Array, "*n"]:
        check_time("t", t)
        now = amounts(t)
        key_kind, key_token = jax.random.split(key)
        # never 0: a float32 draw is 0 once in 8 million times, too often for noise of 1e-20
        kind = 1 - jax.random.uniform(key_kind, x.shape)
        token = jax.random.randint(key_token, x.shape, 0, vocab)
        return jnp.where(kind < now.masked, vocab, jnp.where(kind < now.masked + now.uniform, token, x))

    return sample


def _another(key: Array, x: Int[Array, "*n"], vocab: int) -> Int[Array, "*n"]:
    """A uniform token other than x; any token where x is the mask."""
    others = jnp.where(x == vocab, vocab, vocab - 1)
    drawn = jax.random.randint(key, x.shape, 0, others)
    return drawn + ((drawn >= x) & (x != vocab))
