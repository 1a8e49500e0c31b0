"""Wrong arguments of a process are refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.processes.base import check_distribution
from mdlm_jax.processes.matrix import chain, discretised_gaussian, from_matrices
from mdlm_jax.processes.mixture import absorbing, gidd, hybrid, uniform
from mdlm_jax.schedules import linear

V, T = 3, 4


BAD = {
    "t=-0.1 .. -0.1": lambda: absorbing(V, linear()).forward(jnp.eye(V), jnp.full(V, -0.1)),
    "t=1.5 .. 1.5": lambda: uniform(V, linear()).sample(jax.random.key(0), jnp.zeros(2, int), jnp.full(2, 1.5)),
    "t=2 .. 2": lambda: discretised_gaussian(V, T).forward(jnp.eye(V), jnp.full(V, 2.0)),
    "schedule: P(noised) is": lambda: absorbing(V, lambda t: t * (1 - t)),
    "schedule: P(noised) goes from 0 to 2": lambda: uniform(V, lambda t: 2 * t),
    "mask_share=1.5": lambda: hybrid(V, linear(), 1.5),
    "uniform_share=0.0": lambda: gidd(V, linear(), 0.0),
    "vocab: V=257; accepted: 2 to 256": lambda: discretised_gaussian(257, T),
    "num_steps=0": lambda: discretised_gaussian(V, 0),
    "steps: entries from 0.5, sums from 1 to 1.5": lambda: from_matrices(
        np.array([[[0.5, 1.0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]]), np.full(2, 0.5)
    ),
    "prior: entries from -0.5": lambda: from_matrices(np.full((2, 2, 2), 0.5), np.array([1.5, -0.5])),
    "generator: least rate": lambda: chain(np.array([[-1.0, 2.0], [1.0, -1.0]]), linear()),
    "distribution: entries from 0.5, sums from 1.5": lambda: check_distribution(
        "distribution", jnp.array([[0.5, 1.0]])
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_by_name(message):
    with pytest.raises(UserError) as refused:
        BAD[message]()
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
