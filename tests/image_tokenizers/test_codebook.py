"""The codebook against k-means and closed forms; FSQ's codes as a bijection."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from mdlm_jax.image_tokenizers import fsq
from mdlm_jax.image_tokenizers.codebook import Codebook, follow, nearest, restart_dead, straight_through

VECTORS = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 7.0], [9.0, 0.0]]
CODES = [[0.0, 0.0], [5.0, 6.0], [9.0, 9.0]]


@pytest.fixture
def vectors():
    return jnp.asarray(VECTORS)


@pytest.fixture
def codebook():
    return Codebook(jnp.asarray(CODES), jnp.ones(3), jnp.asarray(CODES))


def test_nearest_is_the_least_distance(codebook, vectors):
    distances = np.linalg.norm(np.array(VECTORS)[:, None] - CODES, axis=-1)
    np.testing.assert_array_equal(nearest(codebook.codes, vectors), distances.argmin(axis=1))


def test_without_memory_it_is_lloyds_update(vectors):
    start = jnp.array([[0.0, 0.0], [5.0, 6.0], [9.0, 1.0]])
    after = Codebook(start, jnp.ones(3), start)
    for rounds in (1, 2):
        after = follow(after, vectors, nearest(after.codes, vectors), decay=0.0)
        fitted, _ = kmeans2(np.array(VECTORS), np.asarray(start), iter=rounds, minit="matrix")
        np.testing.assert_allclose(after.codes, fitted, atol=1e-6)


def test_an_unused_code_stays(codebook, vectors):
    after = follow(codebook, vectors, jnp.array([0, 0, 0, 1, 1, 0]), decay=0.0)
    np.testing.assert_allclose(after.codes, [[2.5, 0.25], [5.0, 6.0], [9.0, 9.0]])


def test_moving_average_is_the_weighted_mean(codebook, vectors):
    """With a fixed assignment, n steps leave decay^n of the start and 1 - decay^n of the batch."""
    chosen, after = jnp.array([0, 0, 0, 1, 1, 2]), codebook
    for _ in range(7):
        after = follow(after, vectors, chosen, decay=0.9)
    kept, sums = 0.9**7, np.array([[1.0, 1.0], [10.0, 12.0], [9.0, 0.0]])
    counts = kept + (1 - kept) * np.array([3, 2, 1])
    expected = (kept * np.array(CODES) + (1 - kept) * sums) / counts[:, None]
    np.testing.assert_allclose(after.codes, expected, rtol=1e-5)


def test_only_dead_codes_start_again(vectors):
    counts = jnp.array([0.05, 2.0, 0.2])
    before = Codebook(jnp.array(CODES), counts, jnp.array(CODES) * counts[:, None])
    after = restart_dead(jax.random.key(0), before, vectors, least=0.1)
    assert any((after.codes[0] == vector).all() for vector in vectors)
    np.testing.assert_array_equal(after.codes[1:], before.codes[1:])
    np.testing.assert_allclose(after.sums / after.counts[:, None], after.codes, rtol=1e-6)


def test_straight_through_has_the_gradient_of_the_identity():
    weights = jnp.array([1.0, -2.0, 3.0])
    value, gradient = jax.value_and_grad(lambda x: straight_through(x, jnp.round(x)) @ weights)(
        jnp.array([0.4, 1.6, 2.0])
    )
    assert value == jnp.array([0.0, 2.0, 2.0]) @ weights
    np.testing.assert_array_equal(gradient, weights)


@pytest.mark.parametrize("levels", [(2,), (3, 4), (8, 5, 5, 5)])
def test_fsq_codes_are_a_bijection(levels):
    codes = jnp.arange(np.prod(levels))
    vectors = fsq.vectors_of(codes, levels)
    np.testing.assert_array_equal(fsq.codes_of(vectors, levels), codes)
    grid = [(np.arange(n) - n // 2) / (n // 2) for n in levels]
    expected = np.array([point[::-1] for point in itertools.product(*grid[::-1])])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8])
def test_fsq_reaches_every_level(levels):
    """And is the derivative of its bound: at zero an odd number of levels has slope (L - 1) / 2 over its half width."""
    quantized = fsq.quantize(jnp.linspace(-9, 9, 4001)[:, None], (levels,))
    np.testing.assert_array_equal(np.unique(fsq.codes_of(quantized, (levels,))), np.arange(levels))
    if levels % 2:
        slope = jax.grad(lambda x: fsq.quantize(x, (levels,))[0])(jnp.zeros(1))
        np.testing.assert_allclose(slope, (levels - 1) * 1.001 / 2 / (levels // 2), rtol=1e-6)
