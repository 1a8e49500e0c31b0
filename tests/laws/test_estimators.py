"""The terms that a fit adds up, against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize

from mdlm_jax.laws import CHINCHILLA, Runs, fit_law
from mdlm_jax.laws.estimators import DELTA, ESTIMATORS


def term(name, residual, log_scale=0.0, threshold=DELTA):
    """The term of a residual of ln loss, which has no sign."""
    with jax.enable_x64(True):
        at = 1.0 + jnp.array([residual, -residual])
        terms = ESTIMATORS[name].terms(at, jnp.ones(2), jnp.float64(log_scale), jnp.float64(threshold))
        up, down = terms.tolist()
    assert up == pytest.approx(down, rel=1e-9)
    return up


@pytest.mark.parametrize("multiple, expected", [(0.5, 0.125), (1, 0.5), (1.5, 1.0), (2, 1.5), (10, 9.5)])
def test_huber(multiple, expected):
    """Over delta: r^2 / 2 delta up to delta, |r| - delta / 2 beyond (Hoffmann et al. 2022, eq. 3)."""
    assert term("huber_sum", multiple * DELTA) == pytest.approx(expected * DELTA, rel=1e-9)


@pytest.mark.parametrize("threshold", [1.0, 0.1, 0.01])
def test_fitted_scale_is_a_density(threshold):
    """Its tails decay over the scale; it turns from square to absolute at threshold x sigma."""
    scale = 0.3
    density = lambda r: np.exp(-term("fitted_scale", r, np.log(scale), threshold))  # noqa: E731
    turn = threshold**2 * scale
    inside, tail = quad(density, 0.0, turn)[0], quad(density, turn, 40 * scale, limit=200)[0]
    assert 2 * (inside + tail) == pytest.approx(1, abs=1e-6)


def test_squares():
    with jax.enable_x64(True):
        found = ESTIMATORS["squares"].terms(jnp.log(jnp.array([3.0])), jnp.log(jnp.array([2.5])), 0.0, DELTA)
    assert float(found[0]) == pytest.approx(0.125)


def test_huber_optimum_by_another_minimiser():
    """SciPy's Nelder-Mead, on the sum of Huber losses in NumPy, finds no point below the fit."""
    generator = np.random.default_rng(0)
    parameters, tokens = 10 ** generator.uniform(((7,), (8,)), ((9,), (11,)), (2, 60))
    loss = (1.8 + 480 / parameters**0.35 + 2100 / tokens**0.37) * np.exp(0.004 * generator.standard_normal(60))
    fitted = fit_law(CHINCHILLA, Runs(parameters, tokens), loss, "huber_sum")

    def objective(step):
        log_e, log_a, log_b, alpha, beta = fitted.coordinates + step
        predicted = np.exp(log_e) + np.exp(log_a) * parameters**-alpha + np.exp(log_b) * tokens**-beta
        size = np.abs(np.log(loss) - np.log(predicted))
        return np.sum(np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2))) / DELTA

    assert objective(0) == pytest.approx(fitted.objective, rel=1e-9)
    for seed in range(3):
        start = 0.02 * np.random.default_rng(seed).standard_normal(5)
        found = minimize(objective, start, method="Nelder-Mead", options={"maxfev": 6000, "fatol": 1e-12})
        assert found.fun > fitted.objective * (1 - 1e-7)
