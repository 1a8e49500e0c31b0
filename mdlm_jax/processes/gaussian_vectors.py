"""Gaussian noise of vectors, variance preserving: z = alpha x + sigma eps, alpha^2 = sigmoid(l), sigma^2 = sigmoid(-l).

A time matters only through l, its log signal-to-noise ratio log(alpha^2 / sigma^2), so functions take l and not t; a
schedule gives l at t (VDM, arXiv 2107.00630). Vectors lie along the last axis, which l lacks.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdlm_jax.errors import UserError

LogSNR = Callable[[Float[Array, "*n"]], Float[Array, "*n"]]


def linear_log_snr(high: float, low: float) -> LogSNR:
    """t in [0, 1] -> l, falling linearly from `high` to `low`.

    Raises:
        UserError: `high` is not above `low`.
    """
    _check_falls(high, low)
    return lambda t: high + (low - high) * t


def cosine_log_snr(high: float, low: float, centre: float = 0.0) -> LogSNR:
    """t -> l = centre - 2 log tan(angle), falling from `high` to `low`; the angle is linear in t.

    With centre 0, alpha = cos(angle). Half of all t have a log SNR within 1.8 of the centre.

    Raises:
        UserError: `high` is not above `low`.
    """
    _check_falls(high, low)
    first, last = (math.atan(math.exp((centre - end) / 2)) for end in (high, low))
    return lambda t: centre - 2 * jnp.log(jnp.tan(first + (last - first) * t))


def alpha_sigma(log_snr: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The factors of the signal and of the noise; their squares add up to 1."""
    return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))


def sample(key: Array, x: Float[Array, "*n d"], log_snr: Float[Array, "*#n"]) -> Float[Array, "*n d"]:
    """z given x."""
    alpha, sigma = (factor[..., None] for factor in alpha_sigma(log_snr))
    return alpha * x + sigma * jax.random.normal(key, x.shape, x.dtype)


def posterior(
    z: Float[Array, "*n d"], x: Float[Array, "*n d"], s: Float[Array, "*#n"], t: Float[Array, "*#n"]
) -> tuple[Float[Array, "*n d"], Float[Array, "*#n"]]:
    """Mean and variance of q(z_s | z_t = z, x) of each coordinate, for log-SNRs s >= t (VDM, appendix A.3).

    With an estimate in place of x it is a step of the reverse process; with E[x | z] the best one of its kind.
    """
    (alpha_s, sigma_s), (alpha_t, _) = alpha_sigma(s), alpha_sigma(t)
    from_x = -jnp.expm1(t - s)
    mean = alpha_s[..., None] * ((1 - from_x)[..., None] * z / alpha_t[..., None] + from_x[..., None] * x)
    return mean, sigma_s**2 * from_x


def reverse_step(
    key: Array, z: Float[Array, "*n d"], x: Float[Array, "*n d"], s: Float[Array, "*#n"], t: Float[Array, "*#n"]
) -> Float[Array, "*n d"]:
    """z_s drawn from that posterior: ancestral sampling."""
    mean, variance = posterior(z, x, s, t)
    return mean + jnp.sqrt(variance)[..., None] * jax.random.normal(key, z.shape, z.dtype)


def noise_of(z: Float[Array, "*n d"], x: Float[Array, "*n d"], log_snr: Float[Array, "*#n"]) -> Float[Array, "*n d"]:
    """eps, where z is known to come from x."""
    alpha, sigma = (factor[..., None] for factor in alpha_sigma(log_snr))
    return (z - alpha * x) / sigma


def clean_of(
    z: Float[Array, "*n d"], noise: Float[Array, "*n d"], log_snr: Float[Array, "*#n"]
) -> Float[Array, "*n d"]:
    """x, where z is known to have this eps."""
    alpha, sigma = (factor[..., None] for factor in alpha_sigma(log_snr))
    return (z - sigma * noise) / alpha


def score(noise: Float[Array, "*n d"], log_snr: Float[Array, "*#n"]) -> Float[Array, "*n d"]:
    """grad_z log q(z | x) = -eps / sigma; with E[eps | z] it is grad_z log q(z) (Tweedie)."""
    return -noise / alpha_sigma(log_snr)[1][..., None]


def snr_rate(schedule: LogSNR, t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """-d SNR / dt: half of it is the nats per unit of t that a unit of squared error in x costs (VDM, equation 15)."""
    log_snr, slope = jax.jvp(schedule, (t,), (jnp.ones_like(t),))
    return -slope * jnp.exp(log_snr)


def prior_nats(x: Float[Array, "*n d"], log_snr: Float[Array, "*#n"]) -> Float[Array, "*n"]:
    """KL(q(z | x) || N(0, I)) at the noisy end."""
    # sigma^2 - 1 - log sigma^2, written as softplus(l) - sigmoid(l): both terms are about alpha^2
    spread = jax.nn.softplus(log_snr) - jax.nn.sigmoid(log_snr)
    return 0.5 * (x.shape[-1] * spread + jax.nn.sigmoid(log_snr) * (x**2).sum(axis=-1))


def _check_falls(high: float, low: float) -> None:
    if not high > low:
        raise UserError(f"log_snr high={high}, low={low}; accepted: high above low, as noise grows with t")
