"""Other forms of L(N, D), to check that of Chinchilla: which predicts budgets that it was not fitted to?"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdlm_jax.laws.parametric import CHINCHILLA, Runs, chinchilla_starts, log_sum
from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.surface import Fit, Law, fit_law
from mdlm_jax.laws.uncertainty import HeldOut, leave_one_budget_out

SHARE = 0.3  # of the smallest size or number of tokens: where a shift starts
COUPLINGS = (0.5, 1.0, 2.0)  # exponents that a fit starts from
SHARPNESS = 0.5  # width of a break, in units of ln D


class Kaplan(NamedTuple):
    """((N_c / N)^(alpha / beta) + D_c / D)^beta, without an irreducible loss (arXiv 2001.08361, eq. 1.5)."""

    N_c: float | np.ndarray
    D_c: float | np.ndarray
    alpha: float | np.ndarray
    beta: float | np.ndarray


class Coupled(NamedTuple):
    """E + A (N^-alpha + R D^-beta)^k. At k = 1 it is Chinchilla's law with B = A R."""

    E: float | np.ndarray
    A: float | np.ndarray
    R: float | np.ndarray
    alpha: float | np.ndarray
    beta: float | np.ndarray
    k: float | np.ndarray


class Shifted(NamedTuple):
    """E + A / (N + N_0)^alpha + B / (D + D_0)^beta."""

    E: float | np.ndarray
    A: float | np.ndarray
    B: float | np.ndarray
    alpha: float | np.ndarray
    beta: float | np.ndarray
    N_0: float | np.ndarray
    D_0: float | np.ndarray


class Broken(NamedTuple):
    """E + A / N^alpha + B / D^beta (1 + (D / D_b)^2)^(-change / 2): beta becomes beta + change beyond D_b.

    One smooth break, of the form of arXiv 2210.14891, with a width of ln 2 on either side.
    """

    E: float | np.ndarray
    A: float | np.ndarray
    B: float | np.ndarray
    alpha: float | np.ndarray
    beta: float | np.ndarray
    D_b: float | np.ndarray
    change: float | np.ndarray


def kaplan_log_loss(coordinates: Float[Array, "4"], runs: Runs) -> Float[Array, "runs"]:
    log_n, log_d, alpha, beta = coordinates
    return beta * log_sum(alpha / beta * (log_n - jnp.log(runs.parameters)), log_d - jnp.log(runs.tokens))


def kaplan_starts(runs: Runs, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts 4"]:
    """Pairs of exponents; at the largest run each of both terms alone would be the whole loss."""
    log_loss = np.log(loss.min())
    return np.array(
        [
            (np.log(runs.parameters.max()) + log_loss / alpha, np.log(runs.tokens.max()) + log_loss / beta, alpha, beta)
            for alpha in (0.05, 0.1, 0.2, 0.4)
            for beta in (0.05, 0.1, 0.2, 0.4)
        ]
    )


def coupled_log_loss(coordinates: Float[Array, "6"], runs: Runs) -> Float[Array, "runs"]:
    log_e, log_a, log_r, alpha, beta, log_k = coordinates
    inner = log_sum(-alpha * jnp.log(runs.parameters), log_r - beta * jnp.log(runs.tokens))
    return log_sum(log_e, log_a + jnp.exp(log_k) * inner)


def coupled_starts(runs: Runs, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts 6"]:
    """Chinchilla's, with the exponents over k and the terms of the largest run kept."""
    return np.array(
        [
            (log_e, log_a, (log_b - log_a) / k, alpha / k, beta / k, np.log(k))
            for log_e, log_a, log_b, alpha, beta in chinchilla_starts(runs, loss)
            for k in COUPLINGS
        ]
    )


def shifted_log_loss(coordinates: Float[Array, "7"], runs: Runs) -> Float[Array, "runs"]:
    log_e, log_a, log_b, alpha, beta, log_n, log_d = coordinates
    size, tokens = runs.parameters + jnp.exp(log_n), runs.tokens + jnp.exp(log_d)
    return log_sum(log_e, log_a - alpha * jnp.log(size), log_b - beta * jnp.log(tokens))


def shifted_starts(runs: Runs, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts 7"]:
    shifts = np.log(SHARE * runs.parameters.min()), np.log(SHARE * runs.tokens.min())
    return np.array([(*start, *shifts) for start in chinchilla_starts(runs, loss)])


def broken_log_loss(coordinates: Float[Array, "7"], runs: Runs) -> Float[Array, "runs"]:
    log_e, log_a, log_b, alpha, beta, log_d, change = coordinates
    log_tokens = jnp.log(runs.tokens)
    beyond = SHARPNESS * jnp.logaddexp(0.0, (log_tokens - log_d) / SHARPNESS)
    return log_sum(log_e, log_a - alpha * jnp.log(runs.parameters), log_b - beta * log_tokens - change * beyond)


def broken_starts(runs: Runs, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts 7"]:
    middle = np.log(runs.tokens).mean()
    return np.array([(*start, middle, change) for start in chinchilla_starts(runs, loss) for change in (-0.1, 0.1)])


KAPLAN = Law(Kaplan, (True, True, False, False), kaplan_log_loss, kaplan_starts)
COUPLED = Law(Coupled, (True, True, True, False, False, True), coupled_log_loss, coupled_starts)
SHIFTED = Law(Shifted, CHINCHILLA.logarithmic + (True, True), shifted_log_loss, shifted_starts)
BROKEN = Law(Broken, CHINCHILLA.logarithmic + (True, False), broken_log_loss, broken_starts)
FORMS = {"chinchilla": CHINCHILLA, "kaplan": KAPLAN, "coupled": COUPLED, "shifted": SHIFTED, "broken": BROKEN}


class FormFit(NamedTuple):
    """One form fitted to the runs of an objective."""

    fitted: Fit
    held_out: HeldOut | Refusal


def compare_forms(
    inputs: Runs,
    loss: Float[np.ndarray, "runs"],
    budgets: Float[np.ndarray, "runs"],
    forms: Mapping[str, Law] = FORMS,
    estimator: str = "squares",
) -> dict[str, FormFit | Refusal]:
    """Each form fitted to all runs, and to all but one budget to predict that one.

    A form with more parameters fits all runs better; only the error of the budgets that are left out compares forms.

    Args:
        inputs: Parameters and tokens of the runs.
        loss: Their losses in nats per token.
        budgets: Their budgets; at least two.
        forms: The laws, by name.
        estimator: A key of ESTIMATORS.

    Returns:
        The fits by name. A form that the runs do not determine is a Refusal.

    Raises:
        UserError: As `fit_law` and `leave_one_budget_out`.
    """
    found = {}
    for name, law in forms.items():
        fitted = fit_law(law, inputs, loss, estimator)
        refused = isinstance(fitted, Refusal)
        found[name] = fitted if refused else FormFit(fitted, leave_one_budget_out(fitted, budgets))
    return found
