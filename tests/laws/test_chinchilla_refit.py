"""Besiroglu et al. 2024 (arXiv 2404.10102): Hoffmann et al.'s 245 runs, read from their figure, fitted again.

The runs carry no licence, so they stay outside the project and these tests are slow ones that skip without them.
"""

import csv
import pathlib

import numpy as np
import pytest

from mdlm_jax.laws import CHINCHILLA, Chinchilla, Runs, allocation, bootstrap, fit_law, interval, row_resamples

pytestmark = pytest.mark.slow
DATA = pathlib.Path(__file__).resolve().parents[3] / "shared/scaling_data/epoch_chinchilla/svg_extracted_data.csv"

HUBER_SUM = Chinchilla(1.817236, 477.84, 2143.86, 0.347313, 0.367183)
HUBER_SUM_OBJECTIVE = 0.0010182740615927515
FITTED_SCALE = Chinchilla(1.81686, 482.00572, 2085.4342, 0.34781, 0.36585)
STANDARD_ERROR = Chinchilla(0.02566, 124.52, 1293.28, 0.0154, 0.0206)
INTERVALS = Chinchilla((1.769, 1.871), (285.214, 743.626), (1042.357, 5810.344), (0.317, 0.373), (0.331, 0.415))
SQUARES_217 = Chinchilla(1.9051, 4.0005, 1.0509, 0.3511, 0.4587)  # N in 1e6, D in 1e9, FLOPs below 1e21


@pytest.fixture(scope="session")
def hoffmann():
    """240 of the 245 runs, without the five of highest loss, as they were fitted."""
    if not DATA.exists():
        pytest.skip(f"no file {DATA} with the public data")
    with open(DATA) as file:
        rows = list(csv.DictReader(file))
    columns = ("Model Size", "Training FLOP", "loss")
    parameters, flops, loss = (np.array([float(row[column]) for row in rows]) for column in columns)
    assert len(loss) == 245
    kept = np.sort(np.argsort(loss)[:-5])
    return Runs(parameters[kept], flops[kept] / (6 * parameters[kept])), loss[kept]


@pytest.fixture(scope="session")
def huber_sum(hoffmann):
    return fit_law(CHINCHILLA, *hoffmann, "huber_sum")


def test_huber_optimum(huber_sum):
    np.testing.assert_allclose(huber_sum.values, HUBER_SUM, rtol=5e-4)
    assert 1e-3 * huber_sum.objective == pytest.approx(HUBER_SUM_OBJECTIVE, rel=1e-6)
    assert 1e-3 * huber_sum.objective <= HUBER_SUM_OBJECTIVE
    assert allocation(huber_sum.values, "six_total").parameters_exponent == pytest.approx(0.5126, abs=2e-3)


def test_fitted_scale_optimum(hoffmann):
    np.testing.assert_allclose(fit_law(CHINCHILLA, *hoffmann, "fitted_scale").values, FITTED_SCALE, rtol=5e-4)


def test_squared_error_optimum(hoffmann):
    runs, loss = hoffmann
    small = 6 * runs.parameters * runs.tokens < 1e21
    assert small.sum() == 217
    scaled = Runs(runs.parameters[small] / 1e6, runs.tokens[small] / 1e9)
    fitted = fit_law(CHINCHILLA, scaled, loss[small], "squares")
    np.testing.assert_array_equal(np.round(fitted.values, 4), SQUARES_217)
    squares = 2 * fitted.objective
    assert round(squares, 6) == 0.062414
    assert 1 - squares / np.sum((loss[small] - loss[small].mean()) ** 2) == pytest.approx(0.99604, abs=5e-6)


def test_bootstrap_intervals(huber_sum):
    """4,000 resamples from each of three seeds: every end within 10% of the published one, and of each other's."""
    for seed in (42, 43, 44):
        sample = bootstrap(huber_sum, row_resamples(240, 4000, seed))
        np.testing.assert_allclose([values.std() for values in sample], STANDARD_ERROR, rtol=0.1)
        np.testing.assert_allclose([interval(values) for values in sample], INTERVALS, rtol=0.1)


def test_bootstrap_draw_by_draw(huber_sum):
    """The first 400 resamples, drawn as the authors drew them, already lie around the published intervals."""
    generator = np.random.RandomState(42)
    counts = [np.bincount(generator.choice(240, 240, replace=True), minlength=240) for _ in range(400)]
    sample = bootstrap(huber_sum, np.array(counts, float))
    for values, (low, high) in zip(sample, INTERVALS, strict=True):
        inside = np.mean((values >= low) & (values <= high))
        assert abs(inside - 0.95) < 0.033  # three standard errors
