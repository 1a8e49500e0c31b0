"""Noise schedules: t in [0, 1] -> p(t) = 1 - alpha(t), the probability that a token is noised. It rises.

Papers write alpha, the probability that a token is unchanged, or sigma = -log alpha, the total noise. Bounds weigh by
-alpha' / (1 - alpha): in float32, `1 - alpha(t)` has no digits left for small t (none for t^3 at t = 1e-3), so the
schedules here give 1 - alpha itself.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdlm_jax.errors import UserError

Schedule = Callable[[Float[Array, "*n"]], Float[Array, "*n"]]


def linear(epsilon: float = 0.0) -> Schedule:
    """(1 - epsilon) t. With epsilon = 1e-3 it is the log-linear schedule of SEDD, RADD and MDLM.

    >>> float(linear()(jnp.float32(0.25)))
    0.25
    """
    return lambda t: (1 - epsilon) * t


def log_linear(epsilon: float = 1e-3) -> Schedule:
    """(1 - epsilon) t, with SEDD's and MDLM's epsilon: sigma = -log(1 - (1 - epsilon) t)."""
    return linear(epsilon)


def linear_sigma(sigma_max: float = 10.0) -> Schedule:
    """sigma = sigma_max t (MDLM's code, `linear`)."""
    return lambda t: noised_by(sigma_max * t)


def cosine() -> Schedule:
    """sin(pi t / 2): MD4's cosine, alpha = 1 - cos(pi (1 - t) / 2) (arXiv 2406.04329, table 1).

    MDLM's code calls another schedule cosine: `mdlm_cosine`.
    """
    return lambda t: jnp.sin(jnp.pi / 2 * t)


def mdlm_cosine(epsilon: float = 1e-3) -> Schedule:
    """(1 - epsilon) (1 - cos(pi t / 2)), from alpha = epsilon + (1 - epsilon) cos(pi t / 2) (MDLM's code, `cosine`)."""
    return lambda t: (1 - epsilon) * 2 * jnp.sin(jnp.pi / 4 * t) ** 2


def cosine_squared(epsilon: float = 0.0) -> Schedule:
    """(1 - epsilon) sin(pi t / 2)^2, from alpha = epsilon + (1 - epsilon) cos(pi t / 2)^2.

    Reference: Nichol and Dhariwal, arXiv 2102.09672, without epsilon; MDLM's code, `cosinesqr`, with 1e-3.
    """
    return lambda t: (1 - epsilon) * jnp.sin(jnp.pi / 2 * t) ** 2


def polynomial(power: float) -> Schedule:
    """t ** power (MD4; with 2 and 0.5 the square and square root of BD3-LM, arXiv 2503.09573)."""
    return lambda t: t**power


def square_root() -> Schedule:
    """sqrt(t) (BD3-LM)."""
    return polynomial(0.5)


def logarithmic() -> Schedule:
    """log(1 + t) / log(2) (BD3-LM)."""
    return lambda t: jnp.log1p(t) / math.log(2)


def geometric(sigma_min: float = 1e-4, sigma_max: float = 20.0) -> Schedule:
    """sigma = sigma_min^(1 - t) sigma_max^t (SEDD, arXiv 2310.16834; MDLM's code, `geometric`).

    It starts at sigma_min instead of 0, so a token may be noised at t = 0: bounds add the nats of reading it there.
    """
    sigma = geometric_sigma(sigma_min, sigma_max)
    return lambda t: noised_by(sigma(t))


def geometric_sigma(sigma_min: float = 1e-4, sigma_max: float = 20.0) -> Schedule:
    """The total noise of `geometric`, which 1 - alpha in float32 cannot tell near t = 1."""
    span = math.log(sigma_max / sigma_min)
    return lambda t: sigma_min * jnp.exp(span * t)


def noised_by(sigma: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """1 - exp(-sigma): P(noised) of the total noise sigma = -log alpha, with its digits and those of its slope.

    expm1 alone would round the slope, exp(-sigma), to multiples of 1e-7.
    """
    return jnp.where(sigma > 1, 1 - jnp.exp(-sigma), -jnp.expm1(-sigma))


def total_noise(schedule: Schedule) -> Schedule:
    """t -> sigma = -log alpha, at most -log(1e-7), where float32 has no smaller alpha."""
    return lambda t: -jnp.log1p(-jnp.minimum(schedule(t), 1 - 1e-7))


def inverse(schedule: Schedule) -> Schedule:
    """The inverse of a schedule, P(noised) -> t, by bisection; 0 or 1 outside the schedule's range.

    >>> round(float(inverse(polynomial(2.0))(jnp.float32(0.25))), 6)
    0.5
    """

    def time_of(noised):
        low, high = jnp.zeros_like(noised), jnp.ones_like(noised)
        for _ in range(24):
            middle = (low + high) / 2
            below = schedule(middle) < noised
            low, high = jnp.where(below, middle, low), jnp.where(below, high, middle)
        return high

    return time_of


def clipped(schedule: Schedule, low: float, high: float) -> Schedule:
    """The part of a schedule between the times `low` and `high`, stretched over [0, 1] (BD3-LM's clipped noise).

    It leaves out the other times: lower variance, and no bound except for blocks of one token.

    Raises:
        UserError: Unless 0 <= low < high <= 1.
    """
    if not 0 <= low < high <= 1:
        raise UserError(f"low={low}, high={high}; accepted: 0 <= low < high <= 1")
    return lambda t: schedule(low + (high - low) * t)


def with_ends(schedule: Schedule, epsilon: float) -> Schedule:
    """epsilon + (1 - 2 epsilon) x the schedule: MD4's, never quite 0 or 1 (epsilon = 1e-4 in its code)."""
    return lambda t: epsilon + (1 - 2 * epsilon) * schedule(t)


def gaussian_argmax(vocab: int) -> Schedule:
    """Uniform noise as the argmax of Gaussian noise on one-hot vectors, variance preserving with alpha = 1 - t.

    alpha = V / (V - 1) [integral of phi(z - mu) Phi(z)^(V - 1) dz - 1 / V], mu = (1 - t) / sqrt(1 - (1 - t)^2) (Duo,
    arXiv 2506.10892, equation 10). A large vocabulary loses nearly all early: at V = 50,257 half by t = 0.03, so most
    times carry no loss.
    """
    z, weight = np.polynomial.legendre.leggauss(200)
    z, weight = 12 * z, 12 * weight  # of z - mu

    def noised(t):
        # 1 - (1 - t)^2 as t (2 - t), which keeps its digits; beyond mu = 30 nothing is ever beaten
        mu = jnp.minimum((1 - t) / jnp.sqrt(jnp.maximum(t * (2 - t), 1e-6)), 30.0)
        # 1 - Phi^(V - 1), so that small noise keeps its digits
        beaten = -jnp.expm1((vocab - 1) * jax.scipy.stats.norm.logcdf(mu[..., None] + z))
        lost = (jnp.asarray(weight * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), t.dtype) * beaten).sum(axis=-1)
        return vocab / (vocab - 1) * lost

    return noised


def noise_rate(schedule: Schedule, t: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """(P(noised), its derivative over itself): the probability of a mask at t and the weight -alpha' / (1 - alpha)."""
    noised, slope = jax.jvp(schedule, (t,), (jnp.ones_like(t),))
    return noised, slope / noised


def step_rate(schedule: Schedule, t: Float[Array, "*n"], width: Float[Array, "*n"] | float) -> Float[Array, "*n"]:
    """(p(t) - p(t - width)) / (p(t) width), p = P(noised): the discrete counterpart of the weight of `noise_rate`.

    The plain difference has no digits left for small widths. Where p changes by less than half, this integrates the
    derivative over the step by Gauss-Legendre quadrature instead.

    Args:
        schedule: P(noised) at each time.
        t: The end of the step.
        width: The length of the step, in units of t.

    >>> float(step_rate(linear(), jnp.float32(0.5), 1e-6))
    2.0
    """
    before, now = schedule(jnp.maximum(t - width, 0)), schedule(t)
    slope = jnp.zeros_like(now)
    for node, weight in zip(*np.polynomial.legendre.leggauss(8), strict=True):
        # the first step of a power schedule has an infinite slope at 0, and takes the difference
        time = jnp.maximum(t - width * float(1 - node) / 2, jnp.finfo(now.dtype).tiny)
        slope += float(weight) / 2 * jax.jvp(schedule, (time,), (jnp.ones_like(time),))[1]
    return jnp.where(before > now / 2, slope, (now - before) / width) / now


def check_schedule(name: str, schedule: Schedule) -> None:
    """Raises UserError for a schedule that leaves [0, 1] or is not increasing, on a grid of 257 times."""
    with jax.ensure_compile_time_eval():
        noised = np.asarray(schedule(jnp.linspace(0, 1, 257)), np.float64)
    falls = np.flatnonzero(~(np.diff(noised) >= 0))
    if falls.size:
        raise UserError(
            f"{name}: P(noised) is {noised[falls[0]]:.4g} at t={falls[0] / 256:.4g} and {noised[falls[0] + 1]:.4g} at "
            f"t={(falls[0] + 1) / 256:.4g}; accepted: a schedule that never falls"
        )
    if noised[0] < -1e-6 or noised[-1] > 1 + 1e-6:
        raise UserError(f"{name}: P(noised) goes from {noised[0]:.4g} to {noised[-1]:.4g}; accepted: within [0, 1]")


SCHEDULES = {
    "linear": linear,
    "log_linear": log_linear,
    "linear_sigma": linear_sigma,
    "cosine": cosine,
    "mdlm_cosine": mdlm_cosine,
    "cosine_squared": cosine_squared,
    "polynomial": polynomial,
    "square_root": square_root,
    "logarithmic": logarithmic,
    "geometric": geometric,
}
