"""Laws of the loss, fitted to surfaces of known parameters."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.laws import (
    CHINCHILLA,
    MUENNIGHOFF,
    QUOKKA,
    Chinchilla,
    Fit,
    GroupedRuns,
    Refusal,
    RepeatedRuns,
    Runs,
    allocation,
    crossover,
    fit_law,
    fit_two_stage,
    loss_at,
    shared_law,
)
from mdlm_jax.laws.surface import named, predict
from tests.run_folders import ROOT

CHINCHILLA_TRUTH = (math.log(1.8), math.log(480.0), math.log(2100.0), 0.35, 0.37)
# Muennighoff et al. 2023: C4, with their decays. Prabhudesai et al. 2025: those of masked diffusion.
AUTOREGRESSIVE = (0.6255, 6.2554, 7.3050, 0.3527, 0.3527, math.log(15.39), math.log(5.31))
DIFFUSION = (0.6255, 6.4, 7.6, 0.3527, 0.3527, math.log(493.89), math.log(1265.65))
# Quokka (arXiv 2510.03280), eq. 15.
QUOKKA_TRUTH = (math.log(1535.23), math.log(54.21), 0.42, 0.13, 1.49, math.log(0.40), math.log(254.35), 0.39, 0.55)


def grid(*axes):
    return [axis.ravel() for axis in np.meshgrid(*axes)]


def runs_of_both() -> Runs:
    return Runs(*grid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e8, 1e10, 5)))


def repeated_runs() -> RepeatedRuns:
    parameters, unique, epochs = grid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 5e9, 3), 2.0 ** np.arange(-2, 9))
    return RepeatedRuns(parameters, unique * epochs, unique)


def loss_of(law, coordinates, runs):
    return np.exp(predict(law, np.asarray(coordinates), runs))


@pytest.mark.parametrize(
    "law, coordinates, runs",
    [
        (CHINCHILLA, CHINCHILLA_TRUTH, runs_of_both),
        pytest.param(MUENNIGHOFF, AUTOREGRESSIVE, repeated_runs, marks=pytest.mark.slow),
        pytest.param(QUOKKA, QUOKKA_TRUTH, repeated_runs, marks=pytest.mark.slow),
    ],
    ids=["chinchilla", "muennighoff", "quokka"],
)
def test_noise_free_surfaces_are_recovered(law, coordinates, runs):
    runs = runs()
    fitted = fit_law(law, runs, loss_of(law, coordinates, runs))
    np.testing.assert_allclose(fitted.values, named(law, np.array(coordinates)), rtol=1e-6)
    assert fitted.scale < 1e-9
    np.testing.assert_allclose(loss_at(fitted, runs), fitted.loss, rtol=1e-9)


@pytest.mark.parametrize("estimator", ["fitted_scale", "squares"])
def test_every_estimator_recovers_the_surface(estimator):
    fitted = fit_law(CHINCHILLA, runs_of_both(), loss_of(CHINCHILLA, CHINCHILLA_TRUTH, runs_of_both()), estimator)
    np.testing.assert_allclose(fitted.values, named(CHINCHILLA, np.array(CHINCHILLA_TRUTH)), rtol=1e-5)


def test_absolute_deviations_ignore_outliers():
    """Least absolute deviations fit 20 of 25 runs exactly, whatever the loss of the other five."""
    loss = loss_of(CHINCHILLA, CHINCHILLA_TRUTH, runs_of_both())
    loss[::6] *= 1.2  # one of each size, one of each token count
    fitted = fit_law(CHINCHILLA, runs_of_both(), loss, "fitted_scale")
    np.testing.assert_allclose(fitted.values, named(CHINCHILLA, np.array(CHINCHILLA_TRUTH)), rtol=1e-3)


def test_objectives_may_share_the_irreducible_loss():
    one = runs_of_both()
    runs = GroupedRuns(np.tile(one.parameters, 2), np.tile(one.tokens, 2), np.repeat([0, 1], 25))
    law = shared_law(("ar", "masked"))
    truth = np.concatenate([CHINCHILLA_TRUTH, [np.log(800.0), np.log(3000.0), 0.33, 0.38]])
    fitted = fit_law(law, runs, loss_of(law, truth, runs))
    assert law.values._fields[:2] == ("E", "A_ar") and law.values._fields[-1] == "beta_masked"
    np.testing.assert_allclose(fitted.values, named(law, truth), rtol=1e-6)
    assert shared_law(("ar", "masked")) is law  # one compiled program


@pytest.mark.slow
def test_undetermined_parameters_of_an_objective_are_named():
    """Five sizes at one token count determine an objective's A and alpha beside a known E, but not its B and beta."""
    one, few = runs_of_both(), slice(0, 5)
    law = shared_law(("ar", "masked"))
    truth = np.concatenate([CHINCHILLA_TRUTH, [np.log(800.0), np.log(2100.0), 0.33, 0.37]])
    group = np.concatenate([np.zeros(25, int), np.ones(5, int)])
    runs = GroupedRuns(*(np.concatenate([x, x[few]]) for x in one), group)
    refusal = fit_law(law, runs, loss_of(law, truth, runs))
    assert isinstance(refusal, Refusal)
    assert "B_masked and beta_masked apart" in refusal.reason and "_ar" not in refusal.reason


def test_fresh_data_follows_chinchilla():
    """Fresh runs no larger than optimal for their tokens follow Chinchilla's law, whatever the decays."""
    runs = RepeatedRuns(*grid(np.array([1e6, 4e6]), np.array([1e9, 4e9])), np.full(4, 4e9))
    plain = loss_of(CHINCHILLA, AUTOREGRESSIVE[:5], Runs(runs.parameters, runs.tokens))
    for decay in (0.1, 1e3):
        coordinates = np.array([*AUTOREGRESSIVE[:5], np.log(decay), np.log(decay)])
        np.testing.assert_allclose(loss_of(MUENNIGHOFF, coordinates, runs), plain, rtol=1e-12)


def test_repeated_data_saturates_at_its_decay():
    """Effective tokens tend to U (1 + R_D) (Muennighoff et al. 2023, eq. 5), and to D where nothing decays."""
    unique, parameters = np.full(1, 1e9), np.full(1, 1e6)
    many = RepeatedRuns(parameters, 1e5 * unique, unique)
    limit = loss_of(CHINCHILLA, AUTOREGRESSIVE[:5], Runs(parameters, unique * (1 + 15.39)))
    np.testing.assert_allclose(loss_of(MUENNIGHOFF, AUTOREGRESSIVE, many), limit, rtol=1e-12)
    slow = np.array([*AUTOREGRESSIVE[:5], np.log(1e12), 0.0])
    plain = loss_of(CHINCHILLA, AUTOREGRESSIVE[:5], Runs(parameters, many.tokens))
    np.testing.assert_allclose(loss_of(MUENNIGHOFF, slow, many), plain, rtol=1e-6)


def test_quokka_has_its_published_best_epochs():
    """The best is e_p (gain / decay)^(1 / decay): effective tokens rise before it and fall after it."""
    peak = 254.35 * 1e9**0.39 / 1e9**0.55 * (1.49 / 0.40) ** (1 / 0.40)
    epochs = peak * np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    loss = loss_of(QUOKKA, QUOKKA_TRUTH, RepeatedRuns(np.full(5, 1e9), epochs * 1e9, np.full(5, 1e9)))
    assert np.argmin(loss) == 2


def two_stage_runs() -> RepeatedRuns:
    """Runs of up to an epoch that are no larger than optimal, and runs that repeat."""
    fresh = grid(np.geomspace(1e6, 8e6, 4), np.geomspace(1e9, 8e9, 4))
    again = grid(np.geomspace(1e6, 1e8, 4), np.geomspace(1e9, 1.28e11, 8))
    parameters, tokens = (np.concatenate(pair) for pair in zip(fresh, again, strict=True))
    return RepeatedRuns(parameters, tokens, np.concatenate([np.full(16, 1e10), np.full(32, 1e8)]))


@pytest.mark.slow
def test_two_stage_fit_recovers_base_and_decays():
    runs = two_stage_runs()
    fitted = fit_two_stage(runs, loss_of(MUENNIGHOFF, AUTOREGRESSIVE, runs))
    assert fitted.free.tolist() == 5 * [False] + 2 * [True]
    np.testing.assert_allclose(fitted.values, named(MUENNIGHOFF, np.array(AUTOREGRESSIVE)), rtol=1e-5)


def fit_of(coordinates, runs) -> Fit:
    coordinates = np.array(coordinates)
    loss, values = loss_of(MUENNIGHOFF, coordinates, runs), named(MUENNIGHOFF, coordinates)
    return Fit(MUENNIGHOFF, "squares", runs, loss, np.ones(7, bool), coordinates, values, 0.0, 0.0)


def test_crossover_is_where_the_curves_meet():
    """With one E, a worse start and slower decay, masked diffusion crosses the autoregressive law at some compute."""
    runs = repeated_runs()
    first, second = (fit_of(coordinates, runs) for coordinates in (AUTOREGRESSIVE, DIFFUSION))
    epochs = np.geomspace(1, 256, 400)
    path = RepeatedRuns(np.full(400, 1e8), 1e8 * epochs, np.full(400, 1e8))
    compute = crossover(first, second, path)
    there = RepeatedRuns(np.array([1e8]), np.array([compute / 6e8]), np.array([1e8]))
    assert loss_at(first, there) == pytest.approx(loss_at(second, there), rel=1e-5)
    early = RepeatedRuns(*(column[:3] for column in path))
    assert "do not cross on this path, the first is the lower" in crossover(first, second, early).reason
    far = path._replace(parameters=np.full(400, 1e11))
    assert "the first: parameters 1e+11 lies 3.0 decades outside" in crossover(first, second, far).reason


def test_undetermined_parameters_of_one_size_are_named():
    runs = Runs(np.full(25, 1e8), np.geomspace(1e8, 1e10, 25))
    refusal = fit_law(CHINCHILLA, runs, loss_of(CHINCHILLA, CHINCHILLA_TRUTH, runs))
    assert isinstance(refusal, Refusal)
    assert "cannot tell" in refusal.reason and "A and alpha" in refusal.reason and "beta" not in refusal.reason


def test_too_few_runs_are_refused():
    runs = Runs(np.geomspace(1e7, 1e9, 5), np.geomspace(1e8, 1e10, 5))
    refusal = fit_law(CHINCHILLA, runs, loss_of(CHINCHILLA, CHINCHILLA_TRUTH, runs))
    assert isinstance(refusal, Refusal) and "5 runs do not determine 5 parameters" in refusal.reason


def test_term_without_effect_is_refused_by_name():
    runs = runs_of_both()
    refusal = fit_law(CHINCHILLA, runs, 400 * runs.parameters**-0.3 + 900 * runs.tokens**-0.35, "squares")
    assert isinstance(refusal, Refusal) and "E made no difference" in refusal.reason


@pytest.mark.parametrize("name", ["parameters", "tokens"])
def test_predictions_end_one_and_a_half_decades_out(name):
    runs = runs_of_both()
    fitted = fit_law(CHINCHILLA, runs, loss_of(CHINCHILLA, CHINCHILLA_TRUTH, runs))
    one = Runs(np.array([1e8]), np.array([1e9]))
    limit = 10 * getattr(one, name) * 10**1.5
    assert loss_at(fitted, one._replace(**{name: 0.99 * limit})).shape == (1,)
    refusal = loss_at(fitted, one._replace(**{name: 1.1 * limit}))
    assert isinstance(refusal, Refusal) and refusal.reason.startswith(name)
    corner = Runs(np.array([1e10]), np.array([1e11]))
    assert "parameters x tokens" in loss_at(fitted, corner).reason


def test_optimum_balances_both_derivatives():
    """N dL/dN = D dL/dD along the budget."""
    law = Chinchilla(1.7, 400.0, 1000.0, 0.33, 0.36)
    best = allocation(law, "six_total")
    parameters = best.parameters_coefficient * 1e20**best.parameters_exponent
    tokens = best.tokens_coefficient * 1e20**best.tokens_exponent
    assert 6 * parameters * tokens == pytest.approx(1e20)
    by_size, by_data = law.alpha * law.A * parameters**-law.alpha, law.beta * law.B * tokens**-law.beta
    assert by_size == pytest.approx(by_data)


def test_bad_arguments_are_named():
    runs = runs_of_both()
    with pytest.raises(UserError, match="estimator 'huber': expected one of huber_sum, fitted_scale, squares"):
        fit_law(CHINCHILLA, runs, np.full(25, 3.0), "huber")
    loss = np.full(25, 3.0)
    loss[3] = np.nan
    with pytest.raises(UserError, match="loss of run 3 is nan: expected a positive"):
        fit_law(CHINCHILLA, runs, loss)
    tokens = np.where(np.arange(25) == 7, 0.0, runs.tokens)
    with pytest.raises(UserError, match="tokens of run 7 is 0.0: expected a positive"):
        fit_law(CHINCHILLA, runs._replace(tokens=tokens), np.full(25, 3.0))


def test_slopes_do_not_depend_on_compiler_rounding():
    """Without XLA's optimiser one term is computed twice, and the two may differ in the last bit."""
    program = """
import numpy as np
from mdlm_jax.laws import CHINCHILLA, Runs
from mdlm_jax.laws.surface import solve
parameters, tokens = 10 ** np.random.default_rng(0).uniform(((5,), (6,)), ((8,), (9,)), (2, 40))
runs, loss = Runs(parameters, tokens), 1.5 + 400 / parameters**0.34 + 400 / tokens**0.28
starts = CHINCHILLA.starts(runs, loss)
solved = solve(CHINCHILLA, "squares", runs, loss, np.ones((36, 40)), starts, np.ones((36, 5), bool))
assert np.isfinite(solved.objective).all(), solved.objective
best = solved.coordinates[solved.objective.argmin()]
np.testing.assert_allclose(best, [*np.log([1.5, 400, 400]), 0.34, 0.28], rtol=1e-6)
"""
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True)
