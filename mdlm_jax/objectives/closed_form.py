"""Sums over the vocabulary for mixtures (`processes.mixture`): two or three numbers per position instead of a vector.

A mixture treats all tokens alike except z, x and the mask, so every sum over y in a bound reduces to log p_z, log p_x
and sum_y log(1 + scale p_y). Computed over [.., V], the same losses take eight times as long on a CPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float, Int

from mdlm_jax.processes.base import Process, mask_only
from mdlm_jax.processes.mixture import between, rates
from mdlm_jax.schedules import step_rate

LEAST = -1e30  # the logarithm of 0: finite, so that 0 times it is 0
TINY = 1e-30  # the least P(one certain token by uniform noise): below it the rates are 0 as well


class Scores(NamedTuple):
    """The sums of the ratios s_y = p_t(y here) / p_t(z here) that a bound needs."""

    total: Float[Array, "*n"]  # sum over tokens y != z of s_y
    log_total: Float[Array, "*n"]  # sum over tokens y != z of log s_y
    log_target: Float[Array, "*n"]  # log s_x
    log_mask: Float[Array, "*n"]  # log s_mask


def log(value: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The logarithm; at 0 it is LEAST, with slope 0."""
    return jnp.where(value > 0, jnp.log(jnp.where(value > 0, value, 1)), LEAST)


def at(values: Float[Array, "*n S"], state: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """values[state], or 0 where the state is beyond S. It is a masked sum, whose gradient fuses."""
    return jnp.where(jnp.arange(values.shape[-1]) == state[..., None], values, 0).sum(axis=-1)


def scores_of_denoiser(
    process: Process,
    logits: Float[Array, "*n V"],
    x: Int[Array, "*n"],
    z: Int[Array, "*n"],
    t: Float[Array, "*#n"],
    leaves_out: bool,
) -> Scores:
    """The sums for p = softmax(logits): the leave-one-out distribution or, with `leaves_out` False, the full posterior.

    log s_y = log(e^slope p_y + e^base) in both cases; only slope and base differ.
    """
    vocab, amounts = process.vocab, process.mixture.amounts(t)
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    log_p_x, log_p_z = at(logits, x) - log_normaliser, at(logits, z) - log_normaliser
    real = z < vocab
    p_z = jnp.where(real, jnp.exp(log_p_z), 0)
    kept, masked = amounts.kept, amounts.masked
    only_masks = mask_only(process)
    added = amounts.uniform / vocab if only_masks else jnp.maximum(amounts.uniform / vocab, TINY)
    if leaves_out:
        log_here = jnp.where(real, jnp.logaddexp(log(kept) + log_p_z, log(added)), log(masked))
        slope, base, log_mask = log(kept) - log_here, log(added) - log_here, log(masked) - log_here
    else:
        # sum over x_0 of p(x_0 | all) / q(z | x_0)
        weight = (1 - p_z) / jnp.maximum(added, TINY) + p_z / jnp.maximum(kept + added, TINY)
        log_weight = jnp.where(real, log(weight), -log(masked))
        slope = log(kept) - jnp.where(real, log(jnp.maximum(added, TINY)), log(masked))
        base, log_mask = log(added) + log_weight, log(masked) + log_weight
    if only_masks:  # an unmasked token is certain: no rate leads to it, whatever the logits
        slope, base = jnp.where(real, 0, slope), jnp.where(real, LEAST, base)
    log_target = jnp.where(x < vocab, jnp.logaddexp(slope + log_p_x, base), log_mask)
    total = jnp.exp(slope) * (1 - p_z) + (vocab - real) * jnp.exp(base)
    if only_masks:
        return Scores(total, jnp.zeros_like(total), log_target, log_mask)
    scale = jnp.exp(jnp.minimum(slope - base, 80.0))
    log_total = (vocab - real) * base + log1p_sum(logits, log_normaliser, scale) - jnp.log1p(scale * p_z)
    return Scores(total, log_total, log_target, log_mask)


def scores_of_logits(logits: Float[Array, "*n V"], x: Int[Array, "*n"], z: Int[Array, "*n"]) -> Scores:
    """The sums for logits that are the log s_y themselves."""
    other = jnp.arange(logits.shape[-1]) != z[..., None]
    return Scores(
        jnp.where(other, jnp.exp(logits), 0).sum(axis=-1),
        jnp.where(other, logits, 0).sum(axis=-1),
        at(logits, x),
        jnp.full(x.shape, LEAST, logits.dtype),
    )


def score_entropy_of(
    process: Process, scores: Scores, x: Int[Array, "*n"], z: Int[Array, "*n"], t: Float[Array, "*#n"]
) -> Float[Array, "*n"]:
    """Sum over y != z of R_t(y, z) (s_y - r_y log s_y + r_y (log r_y - 1)), nats per unit of t."""
    vocab, amounts = process.vocab, process.mixture.amounts(t)
    into_real, into_mask = rates(process.mixture, t, vocab)
    real, changed = z < vocab, x != z
    added = amounts.uniform / vocab
    here = jnp.where(real, jnp.where(changed, added, amounts.kept + added), amounts.masked)  # q(z | x)
    here = jnp.maximum(here, TINY)
    r, r_x, r_mask = added / here, (amounts.kept + added) / here, amounts.masked / here

    def constant(r):
        return xlogy(r, r) - r

    of_tokens = scores.total - r * scores.log_total + (vocab - real - changed) * constant(r)
    of_tokens += jnp.where(changed, constant(r_x) - (r_x - r) * scores.log_target, 0)
    nats = jnp.where(real, into_real, into_mask) * of_tokens
    if process.states == vocab or process.mixture.mask_absorbs:
        return nats
    of_mask = jnp.exp(scores.log_mask) - r_mask * scores.log_mask + constant(r_mask)
    return nats + jnp.where(real, into_real * of_mask, 0)


def rates_out_of(process: Process, scores: Scores, z: Int[Array, "*n"], t: Float[Array, "*#n"]) -> Float[Array, "*n"]:
    """Sum over y != z of the reverse rates R_t(y, z) s_y."""
    into_real, into_mask = rates(process.mixture, t, process.vocab)
    real = z < process.vocab
    out = jnp.where(real, into_real, into_mask) * scores.total
    if process.states == process.vocab or process.mixture.mask_absorbs:
        return out
    return out + jnp.where(real, into_real * jnp.exp(scores.log_mask), 0)


def step_divergence(
    process: Process,
    logits: Float[Array, "*n V"],
    x: Int[Array, "*n"],
    z: Int[Array, "*n"],
    t: Float[Array, "*#n"],
    width: Float[Array, "*#n"] | float,
) -> Float[Array, "*n"]:
    """KL(q(x_s | z, x) || p(x_s | z)) of the step to s = t - width, p the plug-in of softmax(logits), in nats.

    Both are the same backward step times a distribution of x_s, so it is the mean of log(q(x_s | x) / p(x_s)) and the
    logarithm of the ratio of their sums.
    """
    vocab = process.vocab
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    log_p_x, log_p_z = at(logits, x) - log_normaliser, at(logits, z) - log_normaliser
    if mask_only(process):
        rate = step_rate(lambda t: process.mixture.amounts(t).masked, t, width)
        return jnp.where(z < vocab, 0, -log_p_x * rate * width)
    s = jnp.maximum(t - width, 0)
    kept_on, into_real, into_mask = between(process.mixture, s, t, vocab)
    before = process.mixture.amounts(s)
    kept, added = before.kept, before.uniform / vocab
    real, changed = z < vocab, x != z
    into_z = jnp.where(real, into_real, into_mask)
    from_mask = jnp.where(real, into_real, into_mask + kept_on)
    if process.mixture.mask_absorbs:
        from_mask = jnp.where(real, 0, 1)

    def chance_of_z(distribution_at_z):
        return (
            into_z * (kept + before.uniform)
            + jnp.where(real, kept_on * distribution_at_z, 0)
            + from_mask * before.masked
        )

    true_at_z = jnp.where(changed, added, kept + added)
    log_ours_at_x = jnp.logaddexp(log(kept) + log_p_x, log(added))
    log_ours_at_z = jnp.logaddexp(log(kept) + log_p_z, log(added))
    true, ours = (jnp.maximum(chance_of_z(probs), TINY) for probs in (true_at_z, jnp.exp(log_ours_at_z)))

    # each y weighs back_y q(y | x) / true; all but x and z alike, the mask not at all: p and q agree on it
    share = into_z * added / true
    gained_at_z = (into_z + kept_on) * true_at_z / true * (log(true_at_z) - log_ours_at_z)
    gained_at_x = into_z * (kept + added) / true * (log(kept + added) - log_ours_at_x)
    divergence = jnp.where(real, gained_at_z, 0) + jnp.where(changed, gained_at_x, 0) + jnp.log(ours / true)
    scale = kept / jnp.maximum(added, TINY)
    # log(p_y / q_y) of the others, as the sum over all less x and z
    others = log1p_sum(logits, log_normaliser, scale)
    others -= jnp.where(real, jnp.log1p(scale * jnp.exp(log_p_z)), 0)
    others -= jnp.where(changed, jnp.log1p(scale * jnp.exp(log_p_x)), 0)
    return divergence - share * others


@jax.custom_vjp
def log1p_sum(
    logits: Float[Array, "*n V"], log_normaliser: Float[Array, "*n"], scale: Float[Array, "*#n"]
) -> Float[Array, "*n"]:
    """Sum over y of log(1 + scale p_y), p = exp(logits - log_normaliser)."""
    return _log1p_sum(logits, log_normaliser, scale)[0]


def _log1p_sum(logits, log_normaliser, scale):
    grown = 1 + scale[..., None] * jnp.exp(logits - log_normaliser[..., None])
    return jnp.log(grown).sum(axis=-1), (logits, log_normaliser, scale)


def _log1p_sum_backward(residuals, cotangent):
    """The derivative in one pass. The one that JAX derives keeps arrays [.., V] between two passes."""
    logits, log_normaliser, scale = residuals
    p = jnp.exp(logits - log_normaliser[..., None])
    slope = p / (1 + scale[..., None] * p)
    by_logits = (cotangent * scale)[..., None] * slope
    total = slope.sum(axis=-1)
    by_scale = _like(cotangent * total, scale)
    return by_logits, -cotangent * scale * total, by_scale


def _like(value: Array, broadcast: Array) -> Array:
    """Summed over the axes along which `broadcast` was repeated."""
    axes = tuple(axis for axis, size in enumerate(broadcast.shape) if size == 1 and value.shape[axis] > 1)
    return value.sum(axis=axes, keepdims=True) if axes else value


log1p_sum.defvjp(_log1p_sum, _log1p_sum_backward)
