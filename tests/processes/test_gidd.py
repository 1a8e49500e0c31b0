"""GIDD's family of mixtures as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.processes.mixture import Amounts, gidd, mix
from mdlm_jax.schedules import linear
from tests.processes.test_processes import cumulative, transition

V, T = 3, 4


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("uniform_share", [0.1, 0.5])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gidd_is_the_published_family(uniform_share, gamma):
    """alpha = (1 - t) / C, beta pi = (t m + c u) / C, c = B (t (1 - t))^(gamma / 2), C = 1 + c.

    Q_{t|s} = (a_t / a_s) I + 1 (beta_t pi_t - (a_t / a_s) beta_s pi_s)^T, nowhere negative.
    """
    process = gidd(V, linear(), uniform_share, gamma)

    def published(t):
        c = 2**gamma * uniform_share / (1 - uniform_share) * (t * (1 - t)) ** (gamma / 2)
        return (1 - t) / (1 + c), np.append(np.full(V, c / V), t) / (1 + c)

    (a_s, b_s), (a_t, b_t) = published(0.3), published(0.45)
    np.testing.assert_allclose(cumulative(process, 0.45), a_t * np.eye(V, V + 1) + b_t, atol=1e-14)
    step = a_t / a_s * np.eye(V + 1) + b_t - a_t / a_s * b_s
    np.testing.assert_allclose(transition(process, 0.3, 0.45), step, atol=1e-14)
    assert step.min() >= 0
    middle = published(0.5)
    np.testing.assert_allclose(middle[1][:V].sum(), uniform_share, atol=1e-14)


def test_gidd_rates_are_negative_beyond_gamma_2():
    """So gidd refuses a larger gamma: amounts written by hand have negative rates at 2.1 and none at 2."""

    def by_hand(gamma):
        def amounts(t):
            bump = 2**gamma * 0.3 / 0.7 * (t * (1 - t)) ** (gamma / 2)
            return Amounts((1 - t) / (1 + bump), bump / (1 + bump), t / (1 + bump))

        return mix(V, amounts, mask_absorbs=False)

    times = jnp.linspace(0.01, 0.99, 99)
    z = jnp.repeat(jnp.array([[0], [V]]), 99, axis=1)
    for process, lowest in ((gidd(V, linear(), 0.3, 2.0), 0), (by_hand(2.0), 0), (by_hand(2.1), -1)):
        assert np.sign(min(float(process.rate(z, times).min()), 0.0)) == lowest
    with pytest.raises(UserError, match="gamma=2.1; accepted: above 0 and at most 2"):
        gidd(V, linear(), 0.3, 2.1)
