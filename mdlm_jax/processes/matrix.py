"""D3PM in discrete time with one matrix a step, for small vocabularies: the discretised Gaussian, and any other."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import rel_entr

from mdlm_jax.errors import UserError
from mdlm_jax.processes.base import Process, check_distribution, check_time, draw

LARGEST = 256  # V: T matrices of V x V are kept
MOST_DOUBLINGS = 16  # of beta; a chain of one or two steps never gets there


def discretised_gaussian(vocab: int, num_steps: int) -> Process:
    """Noise between neighbouring tokens, for vocabularies with an order (D3PM, arXiv 2107.03006, appendix A.2.3).

    From i to j with exp(-4 (i - j)^2 / ((V - 1)^2 beta)) over the sum of that for -(V - 1) .. V - 1; the rest stays. It
    is symmetric, so its stationary distribution is uniform. beta rises linearly as D3PM's does (1e-4 to 0.02 in 1,000
    steps), times the least power of 2 that brings x_1 within 0.01 nats of uniform. Raises UserError for V > 256.
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


def from_matrices(steps: Float[np.ndarray, "T V V"], prior: Float[np.ndarray, "V"]) -> Process:
    """The chain that goes from row to column by one matrix after the other; t is a multiple of 1 / T.

    `backward` knows single steps, s = t - 1 / T, and those from the start, s = 0. Raises UserError for matrices or a
    prior that are no distributions, and for V > 256.
    """
    check_distribution("steps", steps)
    check_distribution("prior", prior)
    num_steps, vocab = steps.shape[:2]
    check_size("steps", vocab)
    products = [np.eye(vocab)]
    for step in steps:
        products.append(products[-1] @ step)
    to_prior = rel_entr(products[-1], prior).sum(axis=1)
    single, cumulative = np.asarray(steps), np.stack(products)

    def at(matrices: Float[np.ndarray, "n V V"], index: Array, dtype) -> Float[Array, "*n V V"]:
        return jnp.asarray(matrices, dtype)[index]

    def position(t):
        return jnp.round(t * num_steps).astype(jnp.int32)

    def forward(probs, t):
        check_time("t", t)
        return jnp.einsum("...v,...vy->...y", probs, at(cumulative, position(t), probs.dtype), precision="highest")

    def backward(z, s, t):
        check_time("t", t)
        from_start = at(cumulative, position(t), t.dtype)
        one_step = at(single, jnp.maximum(position(t) - 1, 0), t.dtype)
        matrix = jnp.where((position(s) == 0)[..., None, None], from_start, one_step)
        return jnp.einsum("...yz,...z->...y", matrix, jax.nn.one_hot(z, vocab, dtype=t.dtype), precision="highest")

    return Process(
        vocab,
        vocab,
        jnp.asarray(prior),
        lambda x: jnp.asarray(to_prior)[x],
        lambda key, x, t: draw(key, forward(jax.nn.one_hot(x, vocab), t)),
        forward,
        backward,
    )


def check_size(name: str, vocab: int) -> None:
    """Raises UserError for a vocabulary too large for matrices."""
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
