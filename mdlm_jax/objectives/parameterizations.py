"""The four things that a diffusion network may predict: two distributions of the clean token, and two kinds of score.

`leave_one_out` and `full_posterior` both read softmax(logits) and agree only at a mask. Using one where the other is
meant is a common error: the loss then has another optimum.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mdlm_jax.objectives.base import Parameterization
from mdlm_jax.objectives.closed_form import at, log, scores_of_denoiser, scores_of_logits
from mdlm_jax.processes.base import Process, likelihood, ratio, without_own


def leave_one_out(process: Process) -> Parameterization:
    """softmax(logits) = p(x_0 | all OTHER positions): D3PM's plug-in, GIDD, UDLM, Duo; MDLM, where z is the mask."""

    def log_ratio(logits, z, t):
        there = log(process.forward(jax.nn.softmax(logits, axis=-1), t))
        return there - at(there, z)[..., None]

    return Parameterization(
        process,
        logits=lambda probs, z, t: log(probs),
        log_ratio=log_ratio,
        probs=lambda logits, z, t: jax.nn.softmax(logits, axis=-1),
        scores=lambda logits, x, z, t: scores_of_denoiser(process, logits, x, z, t, leaves_out=True),
    )


def full_posterior(process: Process) -> Parameterization:
    """softmax(logits) = p(x_0 | all positions): tauLDR, and SEDD's and RADD's scores made from a denoiser.

    The ratio of y is the sum over x_0 of p(x_0 | all) q(y | x_0) / q(z | x_0).
    """

    def log_ratio(logits, z, t):
        return log(process.forward(without_own(process, z, jax.nn.softmax(logits, axis=-1), t), t))

    def probs(logits, z, t):
        weights = without_own(process, z, jax.nn.softmax(logits, axis=-1), t)
        return weights / weights.sum(axis=-1, keepdims=True)

    return Parameterization(
        process,
        logits=lambda probs, z, t: log(probs * likelihood(process, z, t)),
        log_ratio=log_ratio,
        probs=probs,
        scores=lambda logits, x, z, t: scores_of_denoiser(process, logits, x, z, t, leaves_out=False),
    )


def score(process: Process) -> Parameterization:
    """logits = log of p_t(y here) / p_t(z here): SEDD unscaled, or concrete scores + 1.

    The mask has no logit: no rate in the loss leads there.
    """

    def logits(probs, z, t):
        return log(ratio(process, z, probs, t)[..., : process.vocab])

    return Parameterization(
        process,
        logits,
        log_ratio=lambda logits, z, t: logits,
        probs=lambda logits, z, t: _distribution_of(process, logits, z, t),
        scores=lambda logits, x, z, t: scores_of_logits(logits, x, z),
    )


def scaled_score(process: Process) -> Parameterization:
    """logits = log ratio + log(e^sigma - 1) + log V, sigma = -log alpha: SEDD's scaling for the absorbing state.

    The ratios there sum to 1 / (e^sigma - 1), so the network needs no time conditioning, and logits of 0 have that sum.
    """
    plain = score(process)

    def log_scale(t):
        # of any token: e^sigma - 1 = masked / kept
        probs = process.forward(jnp.zeros((*t.shape, process.vocab)).at[..., 0].set(1), t)
        kept = jnp.maximum(probs[..., 0], jnp.finfo(probs.dtype).tiny)  # in float32 it ends at 0 a little before t = 1
        return (jnp.log(probs[..., -1]) - jnp.log(kept))[..., None] + math.log(process.vocab)

    return plain._replace(
        logits=lambda probs, z, t: plain.logits(probs, z, t) + log_scale(t),
        log_ratio=lambda logits, z, t: logits - log_scale(t),
        probs=lambda logits, z, t: plain.probs(logits - log_scale(t), z, t),
        scores=lambda logits, x, z, t: plain.scores(logits - log_scale(t), x, z, t),
    )


def _distribution_of(process: Process, logits: Array, z: Array, t: Array) -> Array:
    """The leave-one-out distribution behind scores: p_t(y) / p_t(z) gives that of x_t; the mixture is then removed.

    Scores that belong to no distribution give a nearby one: negative entries become 0.
    """
    # a mixture adds the same to every token: the distribution is what stands above that
    nothing = process.forward(jnp.zeros((*t.shape, process.vocab)).at[..., 0].set(1), t)[..., : process.vocab]
    kept, added = nothing[..., :1] - nothing[..., 1:2], nothing[..., 1:2]
    there = jnp.where(jnp.arange(process.vocab) == z[..., None], 0.0, logits)
    real = jax.nn.softmax(there, axis=-1) * (kept + process.vocab * added)
    probs = jnp.maximum(real - added, 0) / kept
    return probs / probs.sum(axis=-1, keepdims=True)
