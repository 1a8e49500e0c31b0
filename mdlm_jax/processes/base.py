"""Noise that acts on every token by itself, and what follows from it: how it is undone, given a distribution of the
clean token.

All distributions are over S states: the V tokens, then the mask where the process has one. Nothing here is V x V: a
distribution is a vector, and a process says how it moves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.errors import UserError


class Process(NamedTuple):
    """A Markov chain on S states, from x_0 at t = 0 to the prior at t = 1. Every function is elementwise over
    positions.

    `forward` is linear: of a vector that is no distribution it gives the same combination of the distributions of x_t.
    The rates are None where time is discrete.
    """

    vocab: int  # V
    states: int  # S
    prior: Float[Array, "S"]  # the distribution that x_1 is taken to have when it is drawn backwards
    prior_and_reconstruction_loss: (
        Callable  # (x_0 i32[*n]) -> f32[*n]: KL(q(x at t = 1 | x_0) || prior), and to read x_0 at t = 0
    )
    sample: Callable  # (key, x_0 i32[*n], t f32[*n]) -> x_t i32[*n]
    forward: Callable  # (distribution f32[*n V], t) -> f32[*n S]: of x_t, where x_0 has that distribution
    backward: Callable  # (z i32[*n], s, t) -> f32[*n S]: q(x_t = z | x_s = y) of every y
    rate: Callable | None = None  # (z i32[*n], t) -> f32[*n S]: R_t(y, z) of every y, per unit of t; 0 at y = z
    exit: Callable | None = None  # (x i32[*n], t) -> f32[*n]: sum of R_t(x, y) over y != x
    jump: Callable | None = None  # (key, x i32[*n], t) -> i32[*n]: y with probability R_t(x, y) / exit
    mixture: Any = None  # `mixture.Mixture` where it is one: its bounds have closed forms


def likelihood(process: Process, z: Int[Array, "*n"], t: Float[Array, "*#n"]) -> Float[Array, "*n V"]:
    """q(x_t = z | x_0 = v) of every token v: what z says of the clean token."""
    return process.backward(z, jnp.zeros_like(t), t)[..., : process.vocab]


def posterior(
    process: Process,
    z: Int[Array, "*n"],
    probs: Float[Array, "*n V"],
    s: Float[Array, "*#n"],
    t: Float[Array, "*#n"],
) -> Float[Array, "*n S"]:
    """p(x_s | x_t) of a position that holds z at t, where `distribution` is p(x_0 | all OTHER positions at t): D3PM's
    equation 4.

    Exact for the leave-one-out distribution and for a token that is known; with p(x_0 | all positions) plugged in it
    counts z twice (arXiv 2107.03006 does not say which; only at a mask do the two coincide).
    """
    joint = process.backward(z, s, t) * process.forward(probs, s)
    total = joint.sum(axis=-1, keepdims=True)
    # a distribution that rules out what is seen, as float32 may: then it stays
    return jnp.where(total > 0, joint / jnp.where(total > 0, total, 1), jnp.arange(process.states) == z[..., None])


def ratio(
    process: Process, z: Int[Array, "*n"], probs: Float[Array, "*n V"], t: Float[Array, "*#n"]
) -> Float[Array, "*n S"]:
    """p_t(this position is y, the others as they are) / p_t(it is z) of every y: the concrete score, from the
    distribution that leaves this position out."""
    there = process.forward(probs, t)
    return there / jnp.take_along_axis(there, z[..., None], axis=-1)


def ratio_of_posterior(
    process: Process, z: Int[Array, "*n"], probs: Float[Array, "*n V"], t: Float[Array, "*#n"]
) -> Float[Array, "*n S"]:
    """The same from p(x_0 | all positions): sum over x_0 of p(x_0 | z) q(y | x_0) / q(z | x_0) (tauLDR, SEDD)."""
    return process.forward(without_own(process, z, probs, t), t)


def without_own(
    process: Process, z: Int[Array, "*n"], probs: Float[Array, "*n V"], t: Float[Array, "*#n"]
) -> Float[Array, "*n V"]:
    """p(x_0 | all positions) / q(z | x_0): the leave-one-out distribution, times p(z at this position | the others)."""
    own = likelihood(process, z, t)
    return jnp.where(own > 0, probs / jnp.where(own > 0, own, 1), 0)


def mask_only(process: Process) -> bool:
    """Whether a token only ever becomes the mask: then what is left visible is clean, and no network need know t."""
    if process.states == process.vocab:
        return False
    with jax.ensure_compile_time_eval():
        halfway = process.forward(jnp.zeros(process.vocab).at[0].set(1), jnp.float32(0.5))
        return not bool((halfway[1 : process.vocab] > 0).any())


def draw(key: Array, probs: Float[Array, "*n S"]) -> Int[Array, "*n"]:
    """A state of each distribution. The default Gumbel noise of float32 cuts tails; mode='high' does not."""
    return jax.random.categorical(key, jnp.log(probs), mode="high").astype(jnp.int32)


def check_time(name: str, t) -> None:
    """Raises UserError for a time outside [0, 1], where it is a number and not a tracer."""
    if isinstance(t, jax.core.Tracer):
        return
    values = np.asarray(t)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise UserError(f"{name}={values.min():g} .. {values.max():g}; accepted: times in [0, 1]")


def check_distribution(name: str, probs) -> None:
    """Raises UserError for numbers along the last axis that are no distribution, where they are numbers and not
    tracers."""
    if isinstance(probs, jax.core.Tracer):
        return
    values = np.asarray(probs)
    total = values.sum(axis=-1)
    if values.size and not (values.min() >= 0 and np.abs(total - 1).max() < 1e-5):
        raise UserError(
            f"{name}: entries from {values.min():g}, sums from {total.min():g} to {total.max():g}; "
            "accepted: no entry below 0, every distribution sums to 1"
        )
