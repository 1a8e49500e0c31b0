"""Noise depends only on the seed, the step and the position in the global batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.noise import bit_reversed, noise_of


@functools.cache
def seed() -> jax.Array:
    return jax.random.key_data(jax.random.key(0))


@pytest.mark.parametrize("count", [1, 2, 5, 8, 12, 64, 100])
def test_spread_is_a_permutation(count):
    assert sorted(bit_reversed(count)) == list(range(count))


def test_contiguous_parts_cover_all_levels():
    """Any quarter of 64 rows has exactly one rank in each sixteenth of the range."""
    for quarter in bit_reversed(64).reshape(4, 16):
        assert sorted(quarter // 4) == list(range(16))


@pytest.mark.parametrize("batch_size", [1, 6, 64])
def test_times_are_stratified_and_uniform(batch_size):
    index = jnp.arange(batch_size)
    steps = jnp.arange(2000)
    u = np.asarray(jax.vmap(lambda step: noise_of(seed(), step, index, batch_size)[1])(steps))
    assert ((u >= 0) & (u < 1)).all()
    strata = np.sort((u * batch_size - (u[:, :1] * batch_size) % 1.0).round(3) % batch_size, axis=1)
    np.testing.assert_allclose(np.round(strata) % batch_size, np.arange(batch_size)[None].repeat(2000, 0), atol=1e-2)
    # each row's own time is uniform over steps: mean 1/2 and variance 1/12, within 5 standard errors
    assert np.abs(u.mean(axis=0) - 0.5).max() < 5 * (1 / 12 / 2000) ** 0.5
    assert np.abs(u.var(axis=0) - 1 / 12).max() < 5 * (1 / 180 / 2000) ** 0.5


def test_partial_batch_draws_the_same():
    keys, u = noise_of(seed(), jnp.int32(7), jnp.arange(16), 16)
    part_keys, part_u = noise_of(seed(), jnp.int32(7), jnp.array([3, 9, 14]), 16)
    np.testing.assert_array_equal(u[jnp.array([3, 9, 14])], part_u)
    np.testing.assert_array_equal(jax.random.key_data(keys)[jnp.array([3, 9, 14])], jax.random.key_data(part_keys))


def test_steps_and_rows_have_distinct_keys():
    keys = jax.vmap(lambda step: jax.random.key_data(noise_of(seed(), step, jnp.arange(8), 8)[0]))(jnp.arange(50))
    assert len(np.unique(np.asarray(keys).reshape(-1, 2), axis=0)) == 400


@pytest.mark.parametrize("batch_size", [1, 8])
def test_time_shift_has_its_own_key(batch_size):
    """No row's key gives the number that shifts the times of the whole batch (the time of rank 0)."""
    keys, u = noise_of(seed(), jnp.int32(3), jnp.arange(batch_size), batch_size)
    shift = float(u[int(np.argmin(bit_reversed(batch_size)))])
    assert not np.isclose(jax.vmap(jax.random.uniform)(keys), shift).any()
