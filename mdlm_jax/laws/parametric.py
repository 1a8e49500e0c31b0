"""L(N, D) = E + A / N^alpha + B / D^beta and its optimum at a budget (Hoffmann et al. 2022, approach 3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import nnls

from mdlm_jax.laws.surface import Law

EXPONENTS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.1)  # a fit starts from every pair
LEAST = 1e-3  # share of the loss at which a term starts that least squares would drop


class Runs(NamedTuple):
    parameters: Float[np.ndarray, "runs"]
    tokens: Float[np.ndarray, "runs"]


class Chinchilla(NamedTuple):
    """In the units of the inputs; E in nats. Floats, or one array each."""

    E: float | np.ndarray
    A: float | np.ndarray
    B: float | np.ndarray
    alpha: float | np.ndarray
    beta: float | np.ndarray


def log_sum(*terms: Float[Array, "..."]) -> Float[Array, "*n"]:
    """ln of the sum of exponentials."""
    stacked = jnp.stack(jnp.broadcast_arrays(*terms))
    # The largest term cancels, so it needs no gradient. JAX's gradient of max looks for the term that equals it and
    # divides by 0 if the compiler computes the two separately and they differ in the last bit.
    largest = jax.lax.stop_gradient(stacked.max(0))
    return jnp.log(jnp.sum(jnp.exp(stacked - largest), 0)) + largest


def chinchilla_log_loss(coordinates: Float[Array, "5"], runs: Runs) -> Float[Array, "runs"]:
    log_e, log_a, log_b, alpha, beta = coordinates
    return log_sum(log_e, log_a - alpha * jnp.log(runs.parameters), log_b - beta * jnp.log(runs.tokens))


def chinchilla_starts(runs: Runs, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts 5"]:
    """At each pair of exponents the other three are linear: nonnegative least squares of the relative error."""
    starts = []
    for alpha in EXPONENTS:
        for beta in EXPONENTS:
            scaled = [runs.parameters / runs.parameters.min(), runs.tokens / runs.tokens.min()]
            terms = np.stack([np.ones_like(loss), scaled[0] ** -alpha, scaled[1] ** -beta], axis=1)
            linear = np.maximum(nnls(terms / loss[:, None], np.ones_like(loss))[0], LEAST * loss.min())
            log_e, log_a, log_b = np.log(linear)
            log_a, log_b = log_a + alpha * np.log(runs.parameters.min()), log_b + beta * np.log(runs.tokens.min())
            starts.append([log_e, log_a, log_b, alpha, beta])
    return np.array(starts)


CHINCHILLA = Law(Chinchilla, (True, True, True, False, False), chinchilla_log_loss, chinchilla_starts)


class Allocation(NamedTuple):
    """The optimum of L(N, D) at C = 6 N D: N* = parameters_coefficient C^parameters_exponent, and D* likewise."""

    counter: str
    parameters_exponent: float | np.ndarray
    parameters_coefficient: float | np.ndarray
    tokens_exponent: float | np.ndarray
    tokens_coefficient: float | np.ndarray


def allocation(law: Chinchilla, counter: str) -> Allocation:
    """The optimum at each budget in closed form (Hoffmann et al. 2022, eq. 4).

    Args:
        law: One law, or arrays of bootstrap replicates.
        counter: Which N was fitted, so that C is its 6 N D: 'six_nonembedding' or 'six_total'.
    """
    exponent = law.beta / (law.alpha + law.beta)
    balance = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    return Allocation(counter, exponent, balance * 6**-exponent, 1 - exponent, 6 ** (exponent - 1) / balance)
