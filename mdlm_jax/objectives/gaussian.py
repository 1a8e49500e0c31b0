"""Diffusion in continuous space over embedded tokens: Plaid (arXiv 2305.18619), by the bound of VDM (2107.00630)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.autoregressive import one_view
from mdlm_jax.objectives.base import Objective, View, full, loss_mask
from mdlm_jax.processes.gaussian_vectors import alpha_sigma, cosine_log_snr, prior_nats, sample, snr_rate

# tokens become distinguishable around a log SNR of -1, for V = 16 as for 32,000: most noise levels are near it
LOG_SNR_HIGH = 5.0
LOG_SNR = cosine_log_snr(LOG_SNR_HIGH, low=-10.0, centre=-1.0)
PRECISION = "highest"  # of products with the vectors: at a high SNR the rounding of an accelerator's default is nats


def gaussian(mask_id: int, embedding_width: int = 16) -> Objective:
    """-log p(x) <= KL(q(z_1 | x) || N(0, I)) + E[-log p(x | z_0)] + integral of 1/2 (-dSNR/dt) E|e(x) - x_hat|^2 dt.

    Denoising score matching with the weight of the likelihood: the integrand is 1/2 g^2 |score - score_hat|^2.
    e(x) are learned vectors of norm sqrt(embedding_width). softmax(logits) is the distribution of a token given all
    OTHER positions; the loss multiplies it by the evidence at the position itself, q(z | e(v)) (Plaid's output prior),
    so an untrained network costs about log V per token and not the weight at t = 0. x_hat is the mean of e under that
    product; p(x | z_0) is read from z_0 alone.

    The network reads noised embeddings; prompt tokens and padding have no noise.

    Raises:
        UserError: The width is below 1.
    """
    if embedding_width < 1:
        raise UserError(f"embedding_width={embedding_width} (objective.embedding_width); accepted: at least 1")

    def init(key):
        return {"embedding": jax.random.normal(key, (mask_id, embedding_width))}

    def view(objective_params, key, example: Example, u) -> View:
        eligible, positions = loss_mask(example), jnp.arange(example.tokens.shape[-1])[:, None]
        clean = embedding(objective_params)[example.tokens]
        t = jnp.reshape(u, 1).astype(jnp.float32)
        return one_view(
            tokens=example.tokens,
            targets=example.tokens,
            weight=eligible.astype(jnp.float32),
            t=t,
            positions=positions,
            key_positions=positions,
            segments=example.segments,
            constant=jnp.where(eligible, prior_nats(clean, LOG_SNR(jnp.ones(1))), 0).sum(),
            noisy=jnp.where(eligible[:, None], sample(key, clean, LOG_SNR(t)), clean),
        )

    def token_loss(objective_params, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
        vectors, log_snr = embedding(objective_params), LOG_SNR(view.t)
        clean = vectors[view.targets]
        signal = alpha_sigma(log_snr)[0][..., None] * clean
        assert view.noisy is not None
        # no gradient comes back through a view: its noise stays as drawn, and the signal is added anew
        noisy = signal + jax.lax.stop_gradient(view.noisy - signal)
        error = ((clean - estimate(vectors, logits, noisy, log_snr)) ** 2).sum(axis=-1)
        readout = readout_nats(vectors, view.targets, LOG_SNR_HIGH)
        return view.weight * (0.5 * snr_rate(LOG_SNR, view.t) * error + readout)

    return Objective(
        view,
        token_loss,
        full,
        bound="upper",
        estimator="random times",
        init=init,
        timed=True,
        inputs=embedding_width,
    )


def embedding(objective_params) -> Float[Array, "V d"]:
    """The vectors of all tokens, of norm sqrt(d): if they could grow, no noise would be noise."""
    vectors = objective_params["embedding"]
    return vectors * math.sqrt(vectors.shape[-1]) / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def evidence(
    vectors: Float[Array, "V d"], noisy: Float[Array, "*n d"], log_snr: Float[Array, "*#n"]
) -> Float[Array, "*n V"]:
    """log q(noisy | token) of every token, up to a constant: alpha / sigma^2 noisy . e(v), as all have one norm."""
    alpha = alpha_sigma(log_snr)[0]
    return product((jnp.exp(log_snr) / alpha)[..., None] * noisy, vectors.T)


def estimate(
    vectors: Float[Array, "V d"],
    logits: Float[Array, "*n V"],
    noisy: Float[Array, "*n d"],
    log_snr: Float[Array, "*#n"],
) -> Float[Array, "*n d"]:
    """x_hat: the mean vector under the product of the prediction and the evidence at the position."""
    return mean_vector(logits + evidence(vectors, noisy, log_snr), vectors)


@jax.custom_vjp
def mean_vector(logits: Float[Array, "*n V"], vectors: Float[Array, "V d"]) -> Float[Array, "*n d"]:
    """softmax(logits) vectors, with a derivative in one pass over the logits: a step is a fifth faster on a CPU."""
    return _mean_vector(logits, vectors)[0]


def _mean_vector(logits, vectors):
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1, keepdims=True)
    mean = product(weights, vectors) / total
    return mean, (weights, total, mean, vectors)


def _mean_vector_slope(kept, slope):
    weights, total, mean, vectors = kept
    slope = slope / total
    by_logits = weights * (product(slope, vectors.T) - (slope * mean).sum(axis=-1, keepdims=True))
    by_vectors = product(weights.reshape(-1, len(vectors)).T, slope.reshape(-1, slope.shape[-1]))
    return by_logits, by_vectors


mean_vector.defvjp(_mean_vector, _mean_vector_slope)


def readout_nats(vectors: Float[Array, "V d"], x: Int[Array, "*n"], log_snr: float) -> Float[Array, "*n"]:
    """At least E[-log p(x | z)] of softmax(evidence): 2 log sum_v exp(-SNR |e(x) - e(v)|^2 / 8), without a draw of z.

    -log p = log(1 + sum a_v) <= 2 log(1 + sum sqrt a_v), a_v = q(z | v) / q(z | x), and then Jensen:
    E sqrt a_v = exp(-SNR |e(x) - e(v)|^2 / 8).
    """
    half_squared_distance = vectors.shape[-1] - product(vectors[x], vectors.T)
    overlap = jnp.exp(-math.exp(log_snr) / 4 * half_squared_distance)
    is_target = jnp.arange(len(vectors)) == x[..., None]
    return 2 * jnp.log1p(jnp.where(is_target, 0, overlap).sum(axis=-1))


def product(a: Float[Array, "*n i"], b: Float[Array, "i j"]) -> Float[Array, "*n j"]:
    """a b, as one product of matrices: with leading axes, XLA's derivative of it takes twice the time on a CPU."""
    return jnp.matmul(a.reshape(-1, a.shape[-1]), b, precision=PRECISION).reshape(*a.shape[:-1], b.shape[-1])
