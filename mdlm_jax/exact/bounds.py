"""The any-order bound of ANY network on one sequence, in every form the papers give it, by enumeration in float64.

All forms are averages of one table: the nats of each hidden token for each of the 2^L sets of hidden positions.
"""

import itertools
from collections.abc import Callable
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, log_softmax

from mdlm_jax.schedules import Schedule, noise_rate

Network = Callable[[Int[np.ndarray, "n L"]], Float[np.ndarray, "n L V"]]  # partly masked tokens -> logits


def table_network(logits: Float[np.ndarray, "*z L V"]) -> Network:
    """A network that is a lookup table: the first L axes, of size V + 1, are the tokens, the mask as the last."""
    return lambda tokens: logits[tuple(tokens.T)]


def masked_nats(network: Network, mask_id: int, x: Int[np.ndarray, "L"]) -> Float[np.ndarray, "sets L"]:
    """-log p(x_i | tokens outside the set), 0 for i outside it. Bit i of a set's number is 1 where i is masked."""
    hidden = _sets(len(x))
    log_probability = log_softmax(np.asarray(network(np.where(hidden, mask_id, x)), np.float64), axis=-1)
    return np.where(hidden, -log_probability[:, np.arange(len(x)), x], 0.0)


def any_order_bound(network: Network, mask_id: int, x: Int[np.ndarray, "L"]) -> float:
    """Mean over all L! orders of the chain rule, in nats per sequence: -log p(x) <= it, by Jensen.

    Summed over sets: k hidden tokens weigh (k-1)! (L-k)! / L! (ARDM, arXiv 2110.02037; RADD, arXiv 2406.03736).
    """
    length = len(x)
    weight = [factorial(k - 1) * factorial(length - k) / factorial(length) for k in range(1, length + 1)]
    return float(np.array([0.0, *weight])[_sets(length).sum(axis=1)] @ masked_nats(network, mask_id, x).sum(axis=1))


def order_nats(network: Network, mask_id: int, x: Int[np.ndarray, "L"]) -> Float[np.ndarray, "orders"]:
    """-log p of the chain rule in each of the L! orders: their mean is the any-order bound.

    The sampler that unmasks one random position at a time draws x with probability mean(exp(-order_nats)).
    """
    orders = np.array(list(itertools.permutations(range(len(x)))))
    still_hidden = np.cumsum((1 << orders)[:, ::-1], axis=1)[:, ::-1]
    return masked_nats(network, mask_id, x)[still_hidden, orders].sum(axis=1)


def masked_bound(
    table: Float[np.ndarray, "sets L"],
    schedule: Schedule,
    times: Float[np.ndarray, "n"],
    weights: Float[np.ndarray, "n"],
) -> float:
    """The integral over t of (-alpha' / (1 - alpha)) E[nats of the hidden tokens], from a table of `masked_nats`.

    With `linear(0)` and L // 2 + 1 Gauss-Legendre times on [0, 1] it is exact: a polynomial of degree L - 1 in t.
    """
    with jax.enable_x64(True):
        noised, rate = (np.asarray(value) for value in noise_rate(schedule, jnp.asarray(times)))
    return float((weights * rate) @ masked_count_distribution(noised, table.shape[1]) @ table.sum(axis=1))


def masked_count_distribution(noised: Float[np.ndarray, "n"], length: int) -> Float[np.ndarray, "n sets"]:
    """P(exactly this set is hidden), where each position is masked independently with probability `noised`."""
    size = _sets(length).sum(axis=1)
    return noised[:, None] ** size * (1 - noised[:, None]) ** (length - size)


def gauss_legendre(
    nodes: int, low: float = 0.0, high: float = 1.0
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """(times, weights) that integrate every polynomial of degree 2 nodes - 1 over [low, high]."""
    times, weights = np.polynomial.legendre.leggauss(nodes)
    return low + (high - low) * (times + 1) / 2, (high - low) * weights / 2


def tanh_sinh(nodes: int) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """(times, weights) over [0, 1], for integrands that grow like roots or logarithms at the ends: t = 1 / (1 + exp(-pi
    sinh u)), u evenly spaced. 40 nodes give 8 digits and more."""
    u = np.linspace(-3.0, 3.0, nodes)
    times, rest = expit(np.pi * np.sinh(u)), expit(-np.pi * np.sinh(u))
    return times, (u[1] - u[0]) * np.pi * np.cosh(u) * times * rest


def _sets(length: int) -> np.ndarray:
    """bool[2^L, L]: which positions each set hides."""
    return (np.arange(2**length)[:, None] >> np.arange(length)) & 1 == 1
