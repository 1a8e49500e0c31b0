import math

import numpy as np
import pytest
from scipy.stats import t as student

from mdlm_jax.errors import UserError
from mdlm_jax.laws import (
    CHINCHILLA,
    MUENNIGHOFF,
    Refusal,
    RepeatedRuns,
    Runs,
    bootstrap,
    fit_law,
    interval,
    leave_one_budget_out,
    profile,
    row_resamples,
    seed_resamples,
)
from mdlm_jax.laws.surface import predict, slopes

TRUTH = (math.log(1.8), math.log(480.0), math.log(2100.0), 0.35, 0.37)


def budgets():
    """Five sizes each, two seeds."""
    return np.repeat([1e18, 1e19, 1e20, 1e21], 10)


NOISE = 0.005


def study(seed: int = 0, noise: float = NOISE) -> tuple[Runs, np.ndarray]:
    best = 0.1 * budgets() ** 0.5
    parameters = best * np.tile(np.repeat(np.geomspace(0.25, 4, 5), 2), 4)
    runs = Runs(parameters, budgets() / (6 * parameters))
    loss = np.exp(predict(CHINCHILLA, np.array(TRUTH), runs))
    return runs, loss + noise * np.random.default_rng(seed).standard_normal(len(loss))


@pytest.fixture(scope="module")
def fitted():
    return fit_law(CHINCHILLA, *study(), "squares")


def test_row_resamples_keep_the_number_of_rows():
    weights = row_resamples(30, 4000, seed=0)
    assert np.all(weights.sum(axis=1) == 30) and np.all(weights >= 0)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.08)
    np.testing.assert_array_equal(weights, row_resamples(30, 4000, seed=0))
    assert np.any(weights != row_resamples(30, 4000, seed=1))


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_seed_resamples_have_the_variance_of_seed_means(seeds):
    """Over many sets of runs the bootstrap's variance of a mean is sigma^2 / n, with no factor (n - 1) / n."""
    cells = np.repeat(np.arange(2000), seeds)
    values = np.random.default_rng(0).standard_normal(len(cells))
    weights = seed_resamples(cells, 50, seed=1)
    np.testing.assert_allclose(weights.reshape(50, 2000, seeds).sum(axis=2), seeds)
    means = (weights * values).reshape(50, 2000, seeds).sum(axis=2) / seeds
    assert means.var(axis=0, ddof=1).mean() == pytest.approx(1 / seeds, rel=0.06)


def test_cell_of_one_seed_is_refused():
    with pytest.raises(UserError, match="cell 7 holds one run"):
        seed_resamples(np.array([3, 3, 7]), 10, seed=0)


def test_weighted_replicate_fits_the_rows_it_drew(fitted):
    """The bootstrap's single start ends where a fit of the repeated rows from all starts does."""
    weights = row_resamples(len(fitted.loss), 3, seed=0)
    sample = bootstrap(fitted, weights)
    for replicate, counts in enumerate(weights.astype(int)):
        drawn = Runs(*(np.repeat(column, counts) for column in fitted.inputs))
        again = fit_law(CHINCHILLA, drawn, np.repeat(fitted.loss, counts), "squares")
        np.testing.assert_allclose(again.values, [values[replicate] for values in sample], rtol=1e-4)


@pytest.mark.parametrize("name", ["E", "alpha"])
def test_profile_matches_the_t_interval(fitted, name):
    """In a nearly linear law the profile is lowest at the fit, and its ends are those of the t distribution."""
    found = profile(fitted, name)
    estimate, middle = getattr(fitted.values, name), len(found.values) // 2
    assert found.values[middle] == pytest.approx(estimate)
    assert found.deviance[middle] == pytest.approx(0, abs=1e-9) and np.all(found.deviance >= -1e-9)
    place = fitted.values._fields.index(name)
    effects = slopes(fitted.law, fitted.coordinates, fitted.inputs)
    residual = np.log(fitted.loss) - predict(fitted.law, fitted.coordinates, fitted.inputs)
    error = np.sqrt(np.sum(residual**2) / 35 * np.linalg.inv(effects.T @ effects)[place, place])
    half = student.ppf(0.975, 35) * error * (estimate if fitted.law.logarithmic[place] else 1)
    assert found.interval == pytest.approx((estimate - half, estimate + half), abs=0.04 * half)


def test_profile_of_a_linear_law_is_exact():
    """With both exponents fixed, E is the constant of a linear regression, whose interval is known."""
    runs, loss = study()
    free = np.array([True, True, True, False, False])
    linear = fit_law(CHINCHILLA, runs, loss, "squares", np.array([TRUTH]), free)
    design = np.stack([np.ones(40), runs.parameters**-0.35, runs.tokens**-0.37], axis=1)
    best, squares, *_ = np.linalg.lstsq(design, loss, rcond=None)
    assert linear.values[:3] == pytest.approx(best, rel=1e-6)
    covariance = squares[0] / 37 * np.linalg.inv(design.T @ design)
    half = student.ppf(0.975, 37) * np.sqrt(covariance[0, 0])
    values = best[0] + half * np.linspace(-1.5, 1.5, 241)
    found = profile(linear, "E", values)
    assert found.interval == pytest.approx((best[0] - half, best[0] + half), abs=1e-4 * half)


def test_profile_has_the_units_of_its_parameter(fitted):
    found = profile(fitted, "A", np.geomspace(fitted.values.A / 20, fitted.values.A * 20, 41))
    assert found.values[20] == pytest.approx(fitted.values.A)
    assert found.interval[0] < fitted.values.A < found.interval[1]


def test_interval_beyond_the_grid_is_refused(fitted):
    narrow = profile(fitted, "alpha", fitted.values.alpha + np.linspace(-1e-4, 1e-4, 41))
    assert isinstance(narrow.interval, Refusal)
    assert narrow.interval.reason.startswith("alpha is not bounded below nor above: at 0.3")
    up = fitted.values.alpha + np.linspace(-0.2, 1e-4, 41)
    assert "alpha is not bounded above:" in profile(fitted, "alpha", up).interval.reason


def test_missing_profiles_are_explained(fitted):
    with pytest.raises(UserError, match="parameter 'gamma': expected one of E, A, B, alpha, beta"):
        profile(fitted, "gamma")
    with pytest.raises(UserError, match="'huber_sum' is no likelihood.*fitted_scale, squares"):
        profile(fitted._replace(estimator="huber_sum"), "alpha")


def test_true_law_predicts_the_budget_left_out(fitted):
    held = leave_one_budget_out(fitted, budgets())
    np.testing.assert_array_equal(held.budgets, np.unique(budgets()))
    relative = NOISE / fitted.loss.min()
    assert np.all(held.error < 4 * relative) and np.all(held.error >= np.abs(held.bias))
    with pytest.raises(UserError, match="at least two budgets"):
        leave_one_budget_out(fitted, np.ones(len(budgets())))


def test_remaining_budgets_must_determine_the_law(fitted):
    """Of two labels, the second has all runs but three."""
    refusal = leave_one_budget_out(fitted, np.where(np.arange(40) < 3, 1e18, 1e20))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "without the budget 1e+20: 3 runs do not determine 5 parameters; it takes more"


def test_largest_budget_shows_failed_extrapolation():
    """The loss stops falling after the third budget."""
    runs, loss = study()
    loss[budgets()[-1] == budgets()] += 0.1
    held = leave_one_budget_out(fit_law(CHINCHILLA, runs, loss, "squares"), budgets())
    assert held.bias[-1] > 0.02 and held.error[-1] == held.error.max()


@pytest.mark.slow
def test_intervals_of_a_surface_cover_the_truth():
    """50 studies: of 95% intervals, 42 (0.84) are 3.6 standard errors too few; `benchmarks/fit_coverage.py` has 300."""
    covered = dict.fromkeys(("bootstrap", "profile"), 0)
    for number in range(50):
        fitted = fit_law(CHINCHILLA, *study(number), "squares")
        low, high = interval(bootstrap(fitted, row_resamples(len(budgets()), 200, number)).alpha)
        covered["bootstrap"] += low <= TRUTH[3] <= high
        low, high = profile(fitted, "alpha").interval
        covered["profile"] += low <= TRUTH[3] <= high
    assert all(count >= 42 for count in covered.values()), covered


@pytest.mark.slow
def test_undetermined_decay_has_a_flat_profile():
    """Runs of up to 4 epochs do not determine a decay of 500: the profile shows that any slower one fits as well."""
    axes = np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 5e9, 3), np.array([0.5, 1.0, 2.0, 4.0])
    parameters, unique, epochs = (axis.ravel() for axis in np.meshgrid(*axes))
    few = RepeatedRuns(parameters, unique * epochs, unique)
    many = RepeatedRuns(parameters, unique * epochs**5, unique)
    found = []
    for runs, decay in ((few, 500.0), (many, 15.39)):
        truth = np.array([0.6255, 6.2554, 7.3050, 0.3527, 0.3527, np.log(decay), np.log(5.31)])
        noise = 0.002 * np.random.default_rng(0).standard_normal(len(parameters))
        fitted = fit_law(MUENNIGHOFF, runs, np.exp(predict(MUENNIGHOFF, truth, runs)) + noise, "squares")
        found.append(profile(fitted, "tokens_decay", np.geomspace(1, 1e5, 41)).interval)
    assert isinstance(found[0], Refusal) and "tokens_decay is not bounded above" in found[0].reason
    assert found[1][0] < 15.39 < found[1][1]
