"""Noise schedules: t in [0, 1] -> P(a token is noised) = 1 - alpha(t), increasing from 0 to 1.

The papers write alpha, the probability that a token survives. We carry 1 - alpha, because a bound weighs by
-alpha' / (1 - alpha) and in float32 `1 - alpha(t)` has lost every digit for small t (all of them for t^3 at t = 1e-3).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Schedule = Callable[[Float[Array, "*n"]], Float[Array, "*n"]]


def linear(epsilon: float = 0.0) -> Schedule:
    """(1 - epsilon) t: the log-linear schedule of SEDD, RADD and MDLM (epsilon = 1e-3 in their code)."""
    return lambda t: (1 - epsilon) * t


def cosine() -> Schedule:
    """sin(pi t / 2), from MD4's alpha = 1 - cos(pi (1 - t) / 2) (arXiv 2406.04329, table 1)."""
    return lambda t: jnp.sin(jnp.pi / 2 * t)


def polynomial(power: float) -> Schedule:
    """t ** power (MD4)."""
    return lambda t: t**power


def geometric(sigma_min: float = 1e-4, sigma_max: float = 20.0) -> Schedule:
    """-expm1(-sigma) with sigma = sigma_min^(1 - t) sigma_max^t (SEDD, arXiv 2310.16834).

    Starts at sigma_min instead of 0: the bound lacks what happens below it, about sigma_min nats per nat.
    """
    span = math.log(sigma_max / sigma_min)
    return lambda t: -jnp.expm1(-sigma_min * jnp.exp(span * t))


def noise_rate(schedule: Schedule, t: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """(P(noised), its derivative over itself): the probability of a mask at t and the weight -alpha' / (1 - alpha)."""
    noised, slope = jax.jvp(schedule, (t,), (jnp.ones_like(t),))
    return noised, slope / noised


SCHEDULES = {"linear": linear, "cosine": cosine, "polynomial": polynomial, "geometric": geometric}
