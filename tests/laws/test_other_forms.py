"""Other forms of L(N, D) recover their own parameters, and agree where they are one law."""

import numpy as np
import pytest

from mdlm_jax.laws import FORMS, Refusal, Runs, compare_forms, fit_law
from mdlm_jax.laws.surface import predict

TRUTHS = {
    # Kaplan et al. 2020, table 2
    "kaplan": (np.log(6.4e13), np.log(1.8e13), 0.076, 0.103),
    "coupled": (np.log(1.7), np.log(40.0), np.log(3.0), 0.3, 0.35, np.log(1.5)),
    "shifted": (np.log(1.7), np.log(400.0), np.log(1500.0), 0.35, 0.36, np.log(2e6), np.log(3e8)),
    "broken": (np.log(1.7), np.log(400.0), np.log(1500.0), 0.35, 0.36, np.log(3e9), 0.2),
}
RUNS = Runs(*(axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e9, 7), np.geomspace(1e8, 1e11, 7))))


def loss_of(name, coordinates):
    return np.exp(predict(FORMS[name], np.array(coordinates), RUNS))


@pytest.mark.parametrize("name", TRUTHS)
def test_parameters_are_recovered(name):
    loss = loss_of(name, TRUTHS[name])
    fitted = fit_law(FORMS[name], RUNS, loss, "squares")
    np.testing.assert_allclose(predict(FORMS[name], fitted.coordinates, RUNS), np.log(loss), atol=2e-6)
    np.testing.assert_allclose(fitted.coordinates, TRUTHS[name], rtol=0.02)


def test_formulas():
    """Each form by its formula."""
    size, tokens = RUNS
    n_c, d_c, alpha, beta = np.exp(TRUTHS["kaplan"][0]), np.exp(TRUTHS["kaplan"][1]), *TRUTHS["kaplan"][2:]
    kaplan = ((n_c / size) ** (alpha / beta) + d_c / tokens) ** beta
    np.testing.assert_allclose(loss_of("kaplan", TRUTHS["kaplan"]), kaplan)
    coupled = 1.7 + 40 * (size**-0.3 + 3 * tokens**-0.35) ** 1.5
    np.testing.assert_allclose(loss_of("coupled", TRUTHS["coupled"]), coupled)
    shifted = 1.7 + 400 * (size + 2e6) ** -0.35 + 1500 * (tokens + 3e8) ** -0.36
    np.testing.assert_allclose(loss_of("shifted", TRUTHS["shifted"]), shifted)
    broken = 1.7 + 400 * size**-0.35 + 1500 * tokens**-0.36 * (1 + (tokens / 3e9) ** 2) ** -0.1
    np.testing.assert_allclose(loss_of("broken", TRUTHS["broken"]), broken)


def test_forms_meet_in_chinchillas():
    """Coupled at k = 1, broken without a change, shifted by nothing."""
    log_e, log_a, log_b, alpha, beta = chinchilla = (np.log(1.7), np.log(400.0), np.log(1500.0), 0.35, 0.36)
    expected = loss_of("chinchilla", chinchilla)
    np.testing.assert_allclose(loss_of("coupled", (log_e, log_a, log_b - log_a, alpha, beta, 0.0)), expected)
    np.testing.assert_allclose(loss_of("broken", (*chinchilla, np.log(1e9), 0.0)), expected)
    np.testing.assert_allclose(loss_of("shifted", (*chinchilla, -50.0, -50.0)), expected)


def test_left_out_budgets_choose_the_form():
    """Of runs under Kaplan's law with noise, his predicts budgets better than a law that cannot have its shape."""
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(RUNS.tokens))
    loss = loss_of("kaplan", TRUTHS["kaplan"]) * np.exp(noise)
    budgets = 10.0 ** np.round(np.log10(RUNS.parameters * RUNS.tokens))
    found = compare_forms(RUNS, loss, budgets, {name: FORMS[name] for name in ("chinchilla", "kaplan")})
    errors = {name: np.sqrt(np.mean(fit.held_out.error**2)) for name, fit in found.items()}
    assert errors["kaplan"] < 2e-3 < errors["chinchilla"]


def test_too_few_runs_are_refused():
    few = Runs(RUNS.parameters[:6], RUNS.tokens[:6])
    found = compare_forms(few, np.linspace(4.0, 3.0, 6), np.arange(6.0), {"broken": FORMS["broken"]})
    assert isinstance(found["broken"], Refusal) and "6 runs" in found["broken"].reason
