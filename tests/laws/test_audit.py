"""The audit of extrapolation: exact on a law without noise, and it finds the misfit of a wrong one."""

import numpy as np

from mdlm_jax.laws import CHINCHILLA, Runs, audit, by_distance, fit_law
from mdlm_jax.laws.audit import LEAST_KEPT
from mdlm_jax.laws.surface import Fit, named, predict

TRUTH = (1.8, 480.0, 2100.0, 0.35, 0.37)


def runs():
    return Runs(*(grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5))))


def budgets():
    return 6 * runs().parameters * runs().tokens


def fitted_to(loss) -> Fit:
    return fit_law(CHINCHILLA, runs(), loss, "squares")


def test_a_true_law_extrapolates():
    E, A, B, alpha, beta = TRUTH
    found = audit(fitted_to(E + A * runs().parameters ** -alpha + B * runs().tokens ** -beta), budgets())
    assert np.abs(found.error).max() < 1e-5
    # sizes: the first three, then four, of five by five runs
    assert found.held_out.count("sizes") == 10 + 5
    counts = [(budgets() > largest).sum() for largest in np.unique(budgets())[LEAST_KEPT - 1 : -1]]
    assert found.held_out.count("budgets") <= sum(counts)


def test_distances_are_those_outside_the_kept_runs():
    """Without the largest size, its runs lie half a decade of N outside; two sizes, half and a whole decade."""
    E, A, B, alpha, beta = TRUTH
    found = audit(fitted_to(E + A * runs().parameters ** -alpha + B * runs().tokens ** -beta), budgets())
    of_sizes = np.array(found.held_out) == "sizes"
    np.testing.assert_allclose(np.unique(found.distance[of_sizes].round(6)), [0.5, 1.0], atol=1e-5)
    (sizes,) = {one.held_out for one in by_distance(found)} - {"budgets"}
    bins = [one for one in by_distance(found) if one.held_out == sizes]
    assert sum(one.count for one in bins) == of_sizes.sum()


def test_a_misfit_is_found_where_it_is():
    """The losses of the largest size lie 5% above the law of all others."""
    E, A, B, alpha, beta = TRUTH
    above = np.where(runs().parameters == runs().parameters.max(), 1.05, 1.0)
    found = audit(fitted_to(above * (E + A * runs().parameters ** -alpha + B * runs().tokens ** -beta)), budgets())
    second = np.unique(runs().parameters)[-2]
    errors = found.error[(np.array(found.held_out) == "sizes") & (found.largest == second)]
    np.testing.assert_allclose(errors, np.log(1.05), atol=1e-5)
    (far,) = [one for one in by_distance(found) if one.held_out == "sizes" and one.high == 1.0]
    assert far.count == 5
    np.testing.assert_allclose((far.bias, far.error), np.log(1.05), atol=1e-5)


def test_too_few_budgets_have_no_audit():
    """Three budgets and three sizes: all are kept."""
    few = Runs(*(np.repeat(column, 1) for column in (np.array([1e7, 1e8, 1e9] * 3), np.geomspace(1e9, 1e11, 9))))
    coordinates = np.where(CHINCHILLA.logarithmic, np.log(TRUTH), TRUTH)
    loss = np.exp(predict(CHINCHILLA, coordinates, few))
    one = Fit(CHINCHILLA, "squares", few, loss, np.ones(5, bool), coordinates, named(CHINCHILLA, coordinates), 1.0, 1.0)
    found = audit(one, np.repeat([1e18, 1e19, 1e20], 3))
    assert not found.held_out and not by_distance(found)
