import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdlm_jax.laws.minimise import minimise

CENTRE = (1.0, -2.0, 0.5)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def ridged(x):
    """Convex, with kinks at its minimum in directions of very different steepness."""
    return jnp.abs(x[0] - 1) + 30 * jnp.abs(x[1] + 2) + (x[2] - 0.5) ** 2 + 3


@pytest.mark.parametrize("objective, best", [(rosenbrock, (1.0, 1.0, 1.0)), (ridged, CENTRE)])
def test_minima_are_found_from_many_starts(objective, best):
    with jax.enable_x64(True):
        starts = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)))
        found = jax.vmap(lambda start: minimise(objective, start, 1e-14))(starts)
        np.testing.assert_allclose(found.point, np.tile(best, (20, 1)), atol=1e-6)
        assert found.evaluations.max() < 300


@pytest.mark.slow
def test_minimum_matches_lbfgs_of_optax():
    objective = lambda x: jnp.sum(jnp.cosh(x - jnp.array(CENTRE)) * jnp.array([1.0, 10.0, 100.0])) + jnp.exp(x.sum())  # noqa: E731
    optimiser = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(objective)

    @jax.jit
    def step(point, state):
        value, gradient = value_and_gradient(point, state=state)
        update, state = optimiser.update(gradient, state, point, value=value, grad=gradient, value_fn=objective)
        return optax.apply_updates(point, update), state

    with jax.enable_x64(True):
        point = jnp.zeros(3)
        state = optimiser.init(point)
        for _ in range(30):
            point, state = step(point, state)
        np.testing.assert_allclose(minimise(objective, jnp.zeros(3), 1e-14).point, point, atol=1e-6)


def test_steps_to_nan_are_shortened():
    """ln x is NaN beyond 0, where the first step leads."""
    with jax.enable_x64(True):
        found = minimise(lambda x: jnp.sum(x - 1e-3 * jnp.log(x)), jnp.ones(1), 1e-14)
        assert found.point[0] == pytest.approx(1e-3, rel=1e-5)
