"""Processes given by V x V matrices, for small vocabularies.

`from_matrices` has one matrix per step of discrete time (D3PM, arXiv 2107.03006); `discretised_gaussian` is one such.
`chain` has one generator in continuous time (tauLDR, arXiv 2205.14987).
"""

from functools import reduce
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm
from jaxtyping import Array, Float
from scipy.special import rel_entr

from mdlm_jax.errors import UserError
from mdlm_jax.processes.base import Process, check_distribution, check_time, draw
from mdlm_jax.schedules import Schedule, check_schedule

LARGEST = 256  # V: matrices of V x V are kept, T of them where time is discrete
MOST_DOUBLINGS = 16  # of beta; chains of one or two steps never get close to uniform
MOST_NOISE = 69.0  # sigma at t = 1, where it would be infinite: a share e^-69 of the tokens is untouched


@runtime_checkable
class TransitionFn(Protocol):
    """The transition matrix between two times."""

    def __call__(self, s: Float[Array, "*n"], t: Float[Array, "*n"], /) -> Float[Array, "*n S S"]:
        """q(x_t = column | x_s = row)."""
        ...


def from_matrices(steps: Float[np.ndarray, "T V V"], prior: Float[np.ndarray, "V"]) -> Process:
    """The chain of discrete time that steps by one matrix after the other, from row to column.

    Times are multiples of 1 / T. `backward` knows single steps (s = t - 1 / T) and steps from the start (s = 0).

    Args:
        steps: The transition matrix of each step.
        prior: The distribution of x_T from which samplers start.

    Raises:
        UserError: A matrix or the prior is no distribution, or V is above 256.
    """
    check_distribution("steps", steps)
    check_distribution("prior", prior)
    num_steps, vocab = steps.shape[:2]
    check_size("steps", vocab)
    products = [np.eye(vocab)]
    for step in steps:
        products.append(products[-1] @ step)
    single, cumulative = np.asarray(steps), np.stack(products)

    def position(t):
        return jnp.round(t * num_steps).astype(jnp.int32)

    def transition(s, t):
        from_start = jnp.asarray(cumulative, t.dtype)[position(t)]
        one_step = jnp.asarray(single, t.dtype)[jnp.maximum(position(t) - 1, 0)]
        return jnp.where((position(s) == 0)[..., None, None], from_start, one_step)

    return _from_transitions(vocab, transition, products[-1], prior)


def discretised_gaussian(vocab: int, num_steps: int) -> Process:
    """Noise between neighbouring tokens, for vocabularies with an order.

    A step goes from i to j with probability exp(-4 (i - j)^2 / ((V - 1)^2 beta)), divided by the sum of that over
    -(V - 1) .. V - 1; the rest stays. The matrix is symmetric, so its stationary distribution is uniform. beta rises
    linearly as in D3PM (1e-4 to 0.02 in 1,000 steps), times the least power of 2 that brings x_T within 0.01 nats of
    uniform.

    Raises:
        UserError: V is above 256.

    Reference: D3PM, arXiv 2107.03006, appendix A.2.3.
    """
    check_size("vocab", vocab)
    if num_steps < 1:
        raise UserError(f"num_steps={num_steps}; accepted: 1 or more")
    beta, prior = np.linspace(1e-4, 0.02, num_steps) * 1000 / num_steps, np.full(vocab, 1 / vocab)
    for _ in range(MOST_DOUBLINGS):
        steps = np.stack([_gaussian_step(vocab, each) for each in beta])
        if rel_entr(reduce(np.matmul, steps), prior).sum(axis=1).max() < 0.01:
            break
        beta = 2 * beta
    return from_matrices(steps, prior)


def chain(generator: Float[np.ndarray, "S S"], schedule: Schedule, vocab: int | None = None) -> Process:
    """Any Markov chain of continuous time, from its generator.

    R_t = sigma'(t) R_b with sigma = -log(1 - schedule(t)): the transition from s to t is expm((sigma_t - sigma_s) R_b).
    R_b = 1 1^T / V - I gives `uniform`, rate 1 into the mask gives `absorbing`. The prior is the distribution of x_1
    where x_0 is uniform.

    Args:
        generator: R_b, from row to column.
        schedule: P(noised) at each time.
        vocab: V: S, or S - 1 where the last state is the mask. Default: S.

    Raises:
        UserError: The matrix is no generator, or V is above 256.
    """
    states = len(generator)
    vocab = vocab or states
    check_size("generator", vocab)
    check_schedule("schedule", schedule)
    off_diagonal = generator - np.diag(np.diag(generator))
    if off_diagonal.min() < 0 or np.abs(generator.sum(axis=1)).max() > 1e-9 * max(1.0, np.abs(generator).max()):
        raise UserError(
            f"generator: least rate {off_diagonal.min():g}, row sums up to {np.abs(generator.sum(axis=1)).max():g}; "
            "accepted: no rate below 0 off the diagonal, rows that sum to 0"
        )
    out = -np.diag(generator)

    def sigma(t):
        noised = schedule(t)
        return jnp.where(noised < 1, -jnp.log1p(-jnp.where(noised < 1, noised, 0)), MOST_NOISE)

    def transition(s, t):
        growth = sigma(t) - sigma(s)
        return jnp.maximum(expm(growth[..., None, None] * jnp.asarray(generator, growth.dtype)), 0)

    def speed(t):
        return jax.jvp(sigma, (t,), (jnp.ones_like(t),))[1]

    def rate(z, t):
        check_time("t", t)
        into = jnp.asarray(off_diagonal, t.dtype).T[z]
        return speed(t)[..., None] * into

    def exit(x, t):
        check_time("t", t)
        return speed(t) * jnp.asarray(out, t.dtype)[x]

    with jax.ensure_compile_time_eval():
        ends = np.asarray(transition(jnp.zeros(()), jnp.ones(()))[:vocab], np.float64)
    return _from_transitions(vocab, transition, ends, ends.mean(axis=0))._replace(
        rate=rate, exit=exit, jump=lambda key, x, t: draw(key, jnp.asarray(off_diagonal)[x])
    )


def _from_transitions(
    vocab: int, transition: TransitionFn, ends: Float[np.ndarray, "V S"], prior: Float[np.ndarray, "S"]
) -> Process:
    """The process of these transition matrices, of which `ends` is the one from 0 to 1."""
    states = len(prior)
    to_prior = rel_entr(ends, prior).sum(axis=1)

    def forward(probs, t):
        check_time("t", t)
        from_start = transition(jnp.zeros_like(t), t)[..., :vocab, :]
        return jnp.einsum("...v,...vy->...y", probs, from_start, precision="highest")

    def backward(z, s, t):
        check_time("t", t)
        into_z = jax.nn.one_hot(z, states, dtype=t.dtype)
        return jnp.einsum("...yz,...z->...y", transition(s, t), into_z, precision="highest")

    return Process(
        vocab,
        states,
        jnp.asarray(prior),
        lambda x: jnp.asarray(to_prior)[x],
        lambda key, x, t: draw(key, forward(jax.nn.one_hot(x, vocab), t)),
        forward,
        backward,
    )


def check_size(name: str, vocab: int) -> None:
    """Checks that a vocabulary is small enough for matrices.

    Raises:
        UserError: It is not; the message starts with `name`.
    """
    if not 2 <= vocab <= LARGEST:
        raise UserError(
            f"{name}: V={vocab}; accepted: 2 to {LARGEST} tokens, as matrices of V x V are kept (uniform, absorbing "
            "and hybrid need none)"
        )


def _gaussian_step(vocab: int, beta: float) -> Float[np.ndarray, "V V"]:
    distance = np.arange(-(vocab - 1), vocab)
    weight = np.exp(-4 * distance**2 / ((vocab - 1) ** 2 * beta))
    weight /= weight.sum()
    step = weight[np.arange(vocab)[None] - np.arange(vocab)[:, None] + vocab - 1]
    np.fill_diagonal(step, 0)
    return step + np.diag(1 - step.sum(axis=1))
