"""Where two curves of loss against epochs cross, on pairs whose crossing is known."""

import numpy as np
import pytest

from mdlm_jax.laws import EpochRuns, Refusal, best_size, cells, epochs_crossing

EPOCHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SIZES = (1e4, 3e4, 1e5)


def runs_of(curve, noise=0.0, seeds=1, error=0.0, generator=None, epochs=EPOCHS):
    """Every size and number of epochs; the middle size has `curve`, the others 0.1 nats more."""
    size, at, _ = (axis.ravel() for axis in np.meshgrid(SIZES, epochs, np.arange(seeds), indexing="ij"))
    loss = curve(np.log2(at)) + 0.1 * (size != SIZES[1])
    if noise:
        loss = loss + noise * generator.standard_normal(len(loss))
    return EpochRuns(size, at, loss, np.full(len(loss), error))


def level(x):
    return 2.0 + 0 * x


def falling(x):
    return 2.0 + 0.05 * (np.log2(12.0) - x)  # below `level` from 12 epochs on, linear in log epochs


def test_crossing_between_epochs():
    found = epochs_crossing(runs_of(level), runs_of(falling, error=1e-9), seed=0)
    assert found.epochs == pytest.approx(12.0, rel=1e-12)
    assert found.low == pytest.approx(12.0, rel=1e-6) and found.high == pytest.approx(12.0, rel=1e-6)
    assert (found.first_epochs, found.last_epochs, found.degrees) == (1, 64, 0)


@pytest.mark.parametrize("seeds", [1, 4])
def test_error_of_a_crossing(seeds):
    """The error of the difference over its slope. All seeds share the Monte Carlo error."""
    error = 0.002  # so small that the best size stays the best and no epochs change places
    runs = runs_of(falling, error=error, seeds=seeds)
    found = epochs_crossing(runs_of(level, seeds=seeds), runs, seed=0, replicates=40_000)
    share = np.log2(12.0) - 3  # of the way from 8 to 16 epochs
    spread = 1.96 * error / 0.05 * np.hypot(share, 1 - share)
    assert np.log2([found.low, found.high]) - np.log2(12.0) == pytest.approx([-spread, spread], rel=0.03)


@pytest.mark.parametrize(("shift", "expected"), [(1.0, np.inf), (-1.0, 0.0)])
def test_no_crossing(shift, expected):
    second = runs_of(lambda x: falling(x) + shift, error=1e-3)
    found = epochs_crossing(runs_of(level), second, seed=0)
    assert (found.epochs, found.low, found.high) == (expected,) * 3


def test_last_crossing_is_reported():
    """The second curve dips below the first once before it stays below."""
    dipping = runs_of(lambda x: 2.0 + np.where(x == 1, -0.1, 0.05 * (4.5 - x)), error=1e-6)
    assert epochs_crossing(runs_of(level), dipping, seed=0).epochs == pytest.approx(2**4.5)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 4])
def test_interval_has_its_nominal_coverage(seeds):
    generator = np.random.default_rng(0)
    noise = {"noise": 0.004, "seeds": seeds, "generator": generator}
    studies = [epochs_crossing(runs_of(level, **noise), runs_of(falling, **noise), s, 400) for s in range(300)]
    held = np.mean([study.low <= 12.0 <= study.high for study in studies])
    assert 0.91 < held < 0.99  # nominal 0.95, standard error 0.013


def test_cells_pool_the_noise_of_seeds():
    runs = EpochRuns(np.array([1.0, 1, 1, 2]), np.array([1.0, 1, 2, 2]), np.array([3.0, 5, 2, 1]), np.zeros(4))
    table = cells(runs)
    np.testing.assert_array_equal(table.loss, [[4.0, 2.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(table.seeds, [[2, 1], [0, 1]])
    assert (table.squares, table.degrees) == (2.0, 1)
    np.testing.assert_array_equal(best_size(table.loss), [4.0, 1.0])


def test_refusals():
    exact = epochs_crossing(runs_of(level), runs_of(falling), seed=0)
    assert isinstance(exact, Refusal) and "nothing to estimate the noise from" in exact.reason
    apart = epochs_crossing(runs_of(level, error=0.1), runs_of(falling, epochs=np.array(EPOCHS) * 3), seed=0)
    assert isinstance(apart, Refusal) and "0 numbers of epochs" in apart.reason
