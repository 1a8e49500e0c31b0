"""Means over seeds against Student's closed form."""

import numpy as np
import pytest
from scipy import stats

from mdlm_jax.laws import Refusal, seed_deviation, seed_mean

VALUES = (2.0, 2.3, 2.1, 1.9)


def test_interval_is_students_without_monte_carlo_error():
    found = seed_mean(np.array(VALUES), 0.0)
    expected = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(VALUES), *expected))


def test_interval_is_normal_without_spread():
    """Only the Monte Carlo error is left."""
    found = seed_mean(np.full(5, 2.0), 0.1)
    assert (found.low, found.high) == pytest.approx((2 - 0.19600, 2 + 0.19600), abs=1e-5)


def test_shared_error_adds_in_quadrature():
    """It does not shrink with more seeds."""
    many = np.tile([1.9, 2.1], 5000)
    found = seed_mean(many, 0.1)
    assert found.high - found.mean == pytest.approx(1.96 * np.hypot(0.1, 0.001), rel=1e-3)


def test_one_seed_is_refused():
    assert isinstance(seed_mean(np.array([2.0]), 0.1), Refusal)


def test_deviation_is_pooled_over_cells():
    # squares 2 + 0.5 over 2 + 1 degrees of freedom; the cell of one seed adds nothing
    assert seed_deviation([[1.0, 2.0, 3.0], [5.0, 6.0], [9.0]]) == pytest.approx((2.5 / 3) ** 0.5)
    assert np.isnan(seed_deviation([[1.0], [2.0]]))
