"""Random numbers and permutations by address."""

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from mdlm_jax.data.addressed import permuted, uniform


def test_uniform_is_uniform_and_uncorrelated():
    values = uniform(0, np.arange(200)[:, None], np.arange(200))
    assert kstest(values.ravel(), "uniform").pvalue > 1e-3
    for axis in (0, 1):
        neighbours = np.corrcoef(np.delete(values, 0, axis).ravel(), np.delete(values, -1, axis).ravel())[0, 1]
        assert abs(neighbours) < 4 / np.sqrt(values.size)


def test_uniform_depends_on_every_coordinate_in_order():
    assert len({float(uniform(*address)) for address in [(0, 1), (1, 0), (0, 0), (1, 1), (0, 0, 0), (1,)]}) == 6
    assert uniform(3, np.arange(10))[7] == uniform(3, 7)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_permutation_contains_every_row_once(count):
    assert sorted(permuted(np.arange(count), count, 5).tolist()) == list(range(count))


def test_per_element_seeds_match_single_seeds():
    together = permuted(np.array([4, 5, 6]), 100, 9, np.array([0, 1, 2]))
    alone = [permuted(np.array([position]), 100, 9, epoch).item() for position, epoch in [(4, 0), (5, 1), (6, 2)]]
    assert together.tolist() == alone


def test_permutations_are_equally_likely():
    """Pearson's test of where each of 10 rows goes, and of where the pair (0, 1) goes, over 20,000 seeds."""
    count, seeds = 10, 20_000
    drawn = permuted(np.tile(np.arange(count), seeds), count, np.repeat(np.arange(seeds), count)).reshape(seeds, count)
    table = np.stack([np.bincount(drawn[:, position], minlength=count) for position in range(count)])
    expected = seeds / count
    assert chi2.sf(((table - expected) ** 2 / expected).sum(), (count - 1) ** 2) > 1e-3
    pairs = np.bincount(drawn[:, 0] * count + drawn[:, 1], minlength=count**2).reshape(count, count)
    pairs = pairs[~np.eye(count, dtype=bool)]
    expected = seeds / len(pairs)
    assert chi2.sf(((pairs - expected) ** 2 / expected).sum(), len(pairs) - 1) > 1e-3


def test_permutation_needs_no_memory_per_row():
    count = 2**41 + 1
    rows = permuted(np.arange(1000), count, 0)
    assert len(set(rows.tolist())) == 1000 and rows.min() >= 0 and rows.max() < count
    assert kstest(rows / count, "uniform").pvalue > 1e-3
