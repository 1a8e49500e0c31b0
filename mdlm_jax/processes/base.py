"""Noise on single tokens, and how to reverse it, given a distribution of the clean token.

All distributions are over S states: the V tokens, then the mask where the process has one. No array is V x V: a
distribution is a vector, and the functions of a process say how it moves.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from mdlm_jax.errors import UserError


@runtime_checkable
class SampleFn(Protocol):
    """The forward process, drawn."""

    def __call__(self, key: Array, x: Int[Array, "*n"], t: Float[Array, "*#n"], /) -> Int[Array, "*n"]:
        """A state x_t of each clean token x, drawn independently at times t in [0, 1]."""
        ...


@runtime_checkable
class ForwardFn(Protocol):
    """The forward process on distributions: a linear map."""

    def __call__(self, probs: Float[Array, "*n V"], t: Float[Array, "*#n"], /) -> Float[Array, "*n S"]:
        """The distribution of x_t where x_0 has the distribution `probs`.

        It is linear: a vector that does not sum to 1 gives the same combination of the columns q(x_t | x_0).
        """
        ...


@runtime_checkable
class BackwardFn(Protocol):
    """A column of the transition matrix."""

    def __call__(self, z: Int[Array, "*n"], s: Float[Array, "*#n"], t: Float[Array, "*#n"], /) -> Float[Array, "*n S"]:
        """q(x_t = z | x_s = y) for every state y, with times s <= t."""
        ...


@runtime_checkable
class RateFn(Protocol):
    """A column of the rate matrix of continuous time."""

    def __call__(self, z: Int[Array, "*n"], t: Float[Array, "*#n"], /) -> Float[Array, "*n S"]:
        """R_t(y, z) for every state y, per unit of t; 0 at y = z."""
        ...


@runtime_checkable
class ExitFn(Protocol):
    """The total rate out of a state."""

    def __call__(self, x: Int[Array, "*n"], t: Float[Array, "*#n"], /) -> Float[Array, "*n"]:
        """The sum of R_t(x, y) over y != x, per unit of t."""
        ...


@runtime_checkable
class JumpFn(Protocol):
    """One jump of the chain."""

    def __call__(self, key: Array, x: Int[Array, "*n"], t: Float[Array, "*#n"], /) -> Int[Array, "*n"]:
        """A state y != x, drawn with probability R_t(x, y) / exit(x, t)."""
        ...


@runtime_checkable
class EndsFn(Protocol):
    """What the two ends of time cost."""

    def __call__(self, x: Int[Array, "*n"], /) -> Float[Array, "*n"]:
        """KL(q(x_1 | x_0) || prior), plus the nats of reading x_0 from the state at t = 0, for each clean token."""
        ...


class Process(NamedTuple):
    """A Markov chain on S states, from x_0 at t = 0 to the prior at t = 1, for each position by itself.

    The rates are None where time is discrete.
    """

    vocab: int  # V
    states: int  # S
    prior: Float[Array, "S"]  # the distribution of x_1 from which samplers start
    prior_and_reconstruction_loss: EndsFn
    sample: SampleFn
    forward: ForwardFn
    backward: BackwardFn
    rate: RateFn | None = None
    exit: ExitFn | None = None
    jump: JumpFn | None = None
    mixture: Any = None  # the `mixture.Mixture` of a process that is one: its bounds have closed forms


def likelihood(process: Process, z: Int[Array, "*n"], t: Float[Array, "*#n"]) -> Float[Array, "*n V"]:
    """q(x_t = z | x_0 = v) for every token v."""
    return process.backward(z, jnp.zeros_like(t), t)[..., : process.vocab]


def posterior(
    process: Process,
    z: Int[Array, "*n"],
    probs: Float[Array, "*n V"],
    s: Float[Array, "*#n"],
    t: Float[Array, "*#n"],
) -> Float[Array, "*n S"]:
    """p(x_s | x_t) at a position that holds z at time t.

    Exact where `probs` is the leave-one-out distribution p(x_0 | all OTHER positions at t), or one known token. With
    p(x_0 | all positions) it would count z twice; the two coincide only at a mask.

    Reference: D3PM, arXiv 2107.03006, equation 4, which does not say which of the two it means.
    """
    joint = process.backward(z, s, t) * process.forward(probs, s)
    total = joint.sum(axis=-1, keepdims=True)
    # in float32 `probs` may rule out z itself: then the state stays
    return jnp.where(total > 0, joint / jnp.where(total > 0, total, 1), jnp.arange(process.states) == z[..., None])


def ratio(
    process: Process, z: Int[Array, "*n"], probs: Float[Array, "*n V"], t: Float[Array, "*#n"]
) -> Float[Array, "*n S"]:
    """p_t(this position is y) / p_t(it is z), the others as they are, for every y: the concrete score.

    `probs` is the leave-one-out distribution.
    """
    there = process.forward(probs, t)
    return there / jnp.take_along_axis(there, z[..., None], axis=-1)


def ratio_of_posterior(
    process: Process, z: Int[Array, "*n"], probs: Float[Array, "*n V"], t: Float[Array, "*#n"]
) -> Float[Array, "*n S"]:
    """The ratio from p(x_0 | all positions): the sum over x_0 of p(x_0 | z) q(y | x_0) / q(z | x_0) (tauLDR, SEDD)."""
    return process.forward(without_own(process, z, probs, t), t)


def without_own(
    process: Process, z: Int[Array, "*n"], probs: Float[Array, "*n V"], t: Float[Array, "*#n"]
) -> Float[Array, "*n V"]:
    """p(x_0 | all positions) / q(z | x_0): the leave-one-out distribution, times p(z at this position | the others)."""
    own = likelihood(process, z, t)
    return jnp.where(own > 0, probs / jnp.where(own > 0, own, 1), 0)


def mask_only(process: Process) -> bool:
    """Whether noise only masks: visible tokens are then clean, and the best network does not depend on t."""
    if process.states == process.vocab:
        return False
    with jax.ensure_compile_time_eval():
        halfway = process.forward(jnp.zeros(process.vocab).at[0].set(1), jnp.float32(0.5))
        return not bool((halfway[1 : process.vocab] > 0).any())


def draw(key: Array, probs: Float[Array, "*n S"]) -> Int[Array, "*n"]:
    """A state from each distribution. JAX's default Gumbel noise in float32 cuts off tails; mode='high' does not."""
    return jax.random.categorical(key, jnp.log(probs), mode="high").astype(jnp.int32)


def check_time(name: str, t) -> None:
    """Checks that times are in [0, 1]; traced times are not checked.

    Raises:
        UserError: A time is outside; the message starts with `name`.
    """
    if isinstance(t, Tracer):
        return
    values = np.asarray(t)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise UserError(f"{name}={values.min():g} .. {values.max():g}; accepted: times in [0, 1]")


def check_distribution(name: str, probs) -> None:
    """Checks that the last axis holds distributions; a traced array is not checked.

    Raises:
        UserError: An entry is negative or a sum is not 1; the message starts with `name`.
    """
    if isinstance(probs, Tracer):
        return
    values = np.asarray(probs)
    total = values.sum(axis=-1)
    if values.size and not (values.min() >= 0 and np.abs(total - 1).max() < 1e-5):
        raise UserError(
            f"{name}: entries from {values.min():g}, sums from {total.min():g} to {total.max():g}; "
            "accepted: no entry below 0, every distribution sums to 1"
        )
