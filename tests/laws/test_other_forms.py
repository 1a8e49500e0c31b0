"""Other forms of L(N, D) recover their own parameters, and agree where they are one law."""

import functools

import numpy as np
import pytest

from mdlm_jax.laws import FORMS, Refusal, Runs, compare_forms, fit_law
from mdlm_jax.laws.surface import predict

TRUTHS = {
    "chinchilla": (1.7, 400.0, 1500.0, 0.35, 0.36),
    "kaplan": (6.4e13, 1.8e13, 0.076, 0.103),  # Kaplan et al. 2020, table 2
    "coupled": (1.7, 40.0, 3.0, 0.3, 0.35, 1.5),
    "shifted": (1.7, 400.0, 1500.0, 0.35, 0.36, 2e6, 3e8),
    "broken": (1.7, 400.0, 1500.0, 0.35, 0.36, 3e9, 0.2),
}


@functools.cache
def runs():
    return Runs(*(axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e9, 7), np.geomspace(1e8, 1e11, 7))))


def coordinates_of(name, values):
    logarithmic = np.array(FORMS[name].logarithmic)
    return np.where(logarithmic, np.log(np.where(logarithmic, values, 1.0)), values)


def loss_of(name, values=None):
    values = TRUTHS[name] if values is None else values
    return np.exp(predict(FORMS[name], coordinates_of(name, values), runs()))


@pytest.mark.parametrize("name", ["kaplan", "coupled", "shifted", "broken"])
def test_parameters_are_recovered(name):
    loss = loss_of(name)
    fitted = fit_law(FORMS[name], runs(), loss, "squares")
    np.testing.assert_allclose(predict(FORMS[name], fitted.coordinates, runs()), np.log(loss), atol=2e-6)
    np.testing.assert_allclose(fitted.coordinates, coordinates_of(name, TRUTHS[name]), rtol=0.02)


def test_formulas():
    """Each form by its formula."""
    size, tokens = runs()
    n_c, d_c, alpha, beta = TRUTHS["kaplan"]
    np.testing.assert_allclose(loss_of("kaplan"), ((n_c / size) ** (alpha / beta) + d_c / tokens) ** beta)
    np.testing.assert_allclose(loss_of("coupled"), 1.7 + 40 * (size**-0.3 + 3 * tokens**-0.35) ** 1.5)
    shifted = 1.7 + 400 * (size + 2e6) ** -0.35 + 1500 * (tokens + 3e8) ** -0.36
    np.testing.assert_allclose(loss_of("shifted"), shifted)
    broken = 1.7 + 400 * size**-0.35 + 1500 * tokens**-0.36 * (1 + (tokens / 3e9) ** 2) ** -0.1
    np.testing.assert_allclose(loss_of("broken"), broken)


def test_forms_meet_in_chinchillas():
    """Coupled at k = 1, broken without a change, shifted by next to nothing."""
    E, A, B, alpha, beta = TRUTHS["chinchilla"]
    expected = loss_of("chinchilla")
    np.testing.assert_allclose(loss_of("coupled", (E, A, B / A, alpha, beta, 1.0)), expected)
    np.testing.assert_allclose(loss_of("broken", (E, A, B, alpha, beta, 1e9, 0.0)), expected)
    np.testing.assert_allclose(loss_of("shifted", (E, A, B, alpha, beta, 1e-9, 1e-9)), expected)


def test_left_out_budgets_choose_the_form():
    """Of runs under Kaplan's law with noise, his predicts budgets better than a law that cannot have its shape."""
    parameters, tokens = runs()
    loss = loss_of("kaplan") * np.exp(1e-3 * np.random.default_rng(0).standard_normal(len(tokens)))
    budgets = 10.0 ** np.round(np.log10(parameters * tokens))
    found = compare_forms(runs(), loss, budgets, {name: FORMS[name] for name in ("chinchilla", "kaplan")})
    errors = {name: np.sqrt(np.mean(fit.held_out.error**2)) for name, fit in found.items()}
    assert errors["kaplan"] < 2e-3 < errors["chinchilla"]


def test_too_few_runs_are_refused():
    few = Runs(*(column[:6] for column in runs()))
    found = compare_forms(few, np.linspace(4.0, 3.0, 6), np.arange(6.0), {"broken": FORMS["broken"]})
    assert isinstance(found["broken"], Refusal) and "6 runs" in found["broken"].reason
