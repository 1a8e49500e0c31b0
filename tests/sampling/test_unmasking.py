"""Which positions a rule unmasks where a confidence equals its limit."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.sampling.unmasking import chosen, linear_count


@pytest.mark.parametrize(
    ("rule", "limit", "expected"),
    [
        ("threshold", 0.5, [True, True, False, True]),  # reaches the limit
        ("dynamic", 0.5, [False, True, False, False]),  # is above it
        ("threshold", 0.8, [False, True, False, False]),  # at least one
        ("entropy_bound", 0.5, [True, True, False, True]),  # sums to at most the limit: 0.25 + 0.25
    ],
)
def test_confidence_equal_to_the_limit(rule, limit, expected):
    values = [0.5, 0.75, 0.25, 0.5] if rule != "entropy_bound" else [-0.25, -0.25, -1.0, -0.5]
    found = chosen(rule, jnp.array(values), jnp.ones(4, bool), jnp.int32(1), jnp.float32(limit))
    np.testing.assert_array_equal(found, expected)


def test_ties_go_to_the_left():
    found = chosen("quota", jnp.full(4, 0.5), jnp.array([False, True, True, True]), jnp.int32(2), jnp.float32(0))
    np.testing.assert_array_equal(found, [False, True, True, False])


def test_linear_counts_give_early_steps_more():
    assert [int(linear_count(jnp.int32(8), 3, jnp.int32(step))) for step in range(3)] == [3, 3, 2]
