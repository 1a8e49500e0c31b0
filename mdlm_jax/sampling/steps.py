"""One reverse step of a noise process, from t to s: the distribution of every position, from the network's prediction
at t.

Positions are drawn independently, each from its distribution (`processes.draw`). The exact one is
`processes.posterior`. Those here work from log ratios, log p_t(y here) / p_t(x here), as a score network predicts them.
All but the corrector and Metropolis differ from the reverse process by O(t - s) only: where several positions change at
once, and in how they follow the rates.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.processes.base import Process, draw

LARGEST = 60.0  # of a log ratio: its exponential, times any rate, stays a float32


def ratios(process: Process, x: Int[Array, "*n"], log_ratio: Float[Array, "*n R"]) -> Float[Array, "*n S"]:
    """p_t(y here) / p_t(x here) of every state y: 1 for x itself, 0 for a mask that the network has no logit for."""
    ratio = jnp.exp(jnp.minimum(log_ratio, LARGEST))
    missing = process.states - ratio.shape[-1]
    ratio = jnp.concatenate([ratio, jnp.zeros((*ratio.shape[:-1], missing), ratio.dtype)], axis=-1)
    return jnp.where(jnp.arange(process.states) == x[..., None], 1, ratio)


def reverse_rates(
    process: Process, x: Int[Array, "*n"], log_ratio: Float[Array, "*n R"], t: Float[Array, "*#n"]
) -> Float[Array, "*n S"]:
    """R_t(y, x) p_t(y) / p_t(x): from x to every y, per unit of time run backwards; 0 at y = x (tauLDR, arXiv
    2205.14987, proposition 1)."""
    return process.rate(x, t) * ratios(process, x, log_ratio)


def euler_distribution(
    process: Process,
    x: Int[Array, "*n"],
    log_ratio: Float[Array, "*n R"],
    s: Float[Array, "*#n"],
    t: Float[Array, "*#n"],
) -> Float[Array, "*n S"]:
    """(t - s) times the reverse rates; what is left of 1 stays. Rates that leave less than nothing are scaled down."""
    jumps = (t - s)[..., None] * reverse_rates(process, x, log_ratio, t)
    total = jumps.sum(axis=-1, keepdims=True)
    stays = jnp.arange(process.states) == x[..., None]
    return jnp.where(stays, jnp.maximum(1 - total, 0), jumps / jnp.maximum(total, 1))


def tau_leaping_distribution(
    process: Process,
    x: Int[Array, "*n"],
    log_ratio: Float[Array, "*n R"],
    s: Float[Array, "*#n"],
    t: Float[Array, "*#n"],
) -> Float[Array, "*n S"]:
    """Poisson numbers of jumps to every y, of mean (t - s) times the rate; a position with more than one jump stays.

    tauLDR adds the jumps up, which only numbers allow; tokens have no order. Exactly one jump, to y, has probability
    m_y e^(-sum m).
    """
    means = (t - s)[..., None] * reverse_rates(process, x, log_ratio, t)
    one_jump = means * jnp.exp(-means.sum(axis=-1, keepdims=True))
    stays = jnp.arange(process.states) == x[..., None]
    return jnp.where(stays, 1 - one_jump.sum(axis=-1, keepdims=True), one_jump)


def tweedie_distribution(
    process: Process,
    x: Int[Array, "*n"],
    log_ratio: Float[Array, "*n R"],
    s: Float[Array, "*#n"],
    t: Float[Array, "*#n"],
) -> Float[Array, "*n S"]:
    """(ratio Q^-1)_y Q_yx, Q = q(x_t | x_s): Tweedie tau-leaping (SEDD, arXiv 2310.16834, theorem 4.2).

    The exact distribution of one position, p(x_s | all positions at t): with the ratios of a leave-one-out distribution
    it is `processes.posterior`. Ratios of no distribution may give it negative entries, which become 0.
    """
    joint = jnp.maximum(staggered(process, ratios(process, x, log_ratio), s, t), 0) * process.backward(x, s, t)
    return joint / joint.sum(axis=-1, keepdims=True)


def staggered(
    process: Process, ratio: Float[Array, "*n S"], s: Float[Array, "*#n"], t: Float[Array, "*#n"]
) -> Float[Array, "*n S"]:
    """ratio Q^-1, Q = q(x_t | x_s): p_s(y here) / p_t(x here) of every y.

    For processes that treat all tokens alike. Then Q mixes the token's own entry with the sum of all tokens and the
    mask, so that two equations for these two undo it.
    """
    vocab = process.vocab
    some_token = jnp.zeros(ratio.shape[:-1], jnp.int32)
    into_token = process.backward(some_token, s, t)
    from_token = into_token[..., 1:2]
    kept = into_token[..., :1] - from_token
    real = ratio[..., :vocab]
    sum_after = real.sum(axis=-1, keepdims=True)
    if process.states == vocab:
        return (real - from_token * sum_after) / kept
    into_mask = process.backward(some_token + vocab, s, t)
    token_masked, mask_stays = into_mask[..., :1], into_mask[..., vocab:]
    from_mask, mask_after = into_token[..., vocab:], ratio[..., vocab:]
    tokens_stay = kept + vocab * from_token
    determinant = tokens_stay * mask_stays - vocab * from_mask * token_masked
    sum_before = (mask_stays * sum_after - vocab * from_mask * mask_after) / determinant
    mask_before = (tokens_stay * mask_after - token_masked * sum_after) / determinant
    return jnp.concatenate([(real - from_token * sum_before - from_mask * mask_before) / kept, mask_before], axis=-1)


def without_mask(
    process: Process, x: Int[Array, "*n"], probs: Float[Array, "*n S"], clean: Float[Array, "*n V"]
) -> Float[Array, "*n S"]:
    """The distribution of a step of which no mask may come: a token stays off it, a mask takes a clean token."""
    if process.states == process.vocab:
        return probs
    nothing = jnp.zeros_like(probs[..., :1])
    tokens, clean = (jnp.concatenate([part[..., : process.vocab], nothing], axis=-1) for part in (probs, clean))
    return jnp.where((x == process.vocab)[..., None], clean, tokens)


def corrector_step(
    key: Array,
    process: Process,
    x: Int[Array, "*n"],
    log_ratio: Float[Array, "*n R"],
    t: Float[Array, "*#n"],
    size: Float[Array, ""],
) -> Int[Array, "*n"]:
    """A position jumps with probability size x (forward + reverse rates), at most 1: these rates leave p_t as it is.

    tauLDR's corrector (arXiv 2205.14987, proposition 4).
    """
    backward = reverse_rates(process, x, log_ratio, t)
    forward = process.exit(x, t)
    total = forward + backward.sum(axis=-1)
    key_jump, key_way, key_forward, key_backward = jax.random.split(key, 4)
    is_forward = jax.random.uniform(key_way, x.shape) * total < forward
    y = jnp.where(is_forward, process.jump(key_forward, x, t), draw(key_backward, backward))
    return jnp.where(jax.random.uniform(key_jump, x.shape) < size * total, y, x)


def metropolis_step(
    key: Array, x: Int[Array, "L"], log_ratio: Float[Array, "L V"], eligible: Bool[Array, "L"]
) -> Int[Array, "L"]:
    """Another token at one eligible position, both uniform, accepted with the `acceptance` of its ratio: p_t stays."""
    key_position, key_token, key_accept = jax.random.split(key, 3)
    position = draw(key_position, eligible.astype(jnp.float32))
    drawn = jax.random.randint(key_token, (), 0, log_ratio.shape[-1] - 1)
    token = drawn + (drawn >= x[position])
    accepted = jax.random.uniform(key_accept) < acceptance(log_ratio)[position, token]
    return jnp.where(accepted, x.at[position].set(token), x)


def acceptance(log_ratio: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """min(1, ratio)."""
    return jnp.exp(jnp.minimum(log_ratio, 0))
