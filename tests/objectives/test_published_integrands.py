"""GIDD, UDLM and Duo have the integrands that their papers write. Enumeration in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, xlogy

from mdlm_jax.objectives.score_entropy import duo, gidd, udlm
from mdlm_jax.processes import mixture
from mdlm_jax.schedules import cosine, linear
from tests.objectives.one_position import TIMES, V, every_case, loss_of, softmax, transitions


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def gidd_terms(process, logits, view, t):
    """(q(. | x), q(. | network), q(z | x), q(z | network)) of every case."""
    forward = transitions(process, t)
    true, ours = forward[view.targets], softmax(logits) @ forward
    at = np.arange(len(true)), np.asarray(view.tokens)
    return true, ours, true[at], ours[at]


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gidd_is_a_weight_times_two_divergences(t, gamma):
    """w [KL(q(. | x) || q(. | network)) + rho - log rho - 1], rho = q(z | x) / q(z | network).

    w = [m + c (1 + gamma (1 - 2 t) / (2 t)) u]_z / ((1 - t) C q(z | x)), with c = B (t (1 - t))^(gamma / 2) and C = 1
    + c: the published weight; and as it is written over log-SNR, (pi - d pi / d lambda) / (pi + e^lambda [z = x]).
    """
    objective = gidd(V, linear(), 0.2, gamma)
    process = objective.parameterization(()).process
    view, logits = every_case(process, t)
    true, ours, true_z, ours_z = gidd_terms(process, logits, view, t)
    z, x = np.asarray(view.tokens), np.asarray(view.targets)
    bump = 2**gamma * 0.2 / 0.8 * (t * (1 - t)) ** (gamma / 2)
    into = np.append(np.full(V, bump * (1 + gamma * (1 - 2 * t) / (2 * t)) / V), 1.0)
    weight = into[z] / ((1 - t) * (1 + bump) * true_z)
    rho = true_z / ours_z
    divergences = (xlogy(true, true) - xlogy(true, ours)).sum(axis=1) + rho - np.log(rho) - 1
    np.testing.assert_allclose(loss_of(objective)(logits, view), weight * divergences, rtol=1e-9)

    def mixing(t):
        """(log-SNR, the distribution that a noised token has)."""
        c = 2**gamma * 0.2 / 0.8 * (t * (1 - t)) ** (gamma / 2)
        kept = (1 - t) / (1 + c)
        noise = jnp.append(jnp.full(V, c / V), t) / (1 + c)
        return jnp.log(kept / (1 - kept)), noise / (1 - kept)

    (snr, probs), (snr_slope, distribution_slope) = jax.jvp(mixing, (jnp.float64(t),), (jnp.float64(1),))
    over_snr = (probs - distribution_slope / snr_slope)[z] / (probs[z] + np.where(z == x, np.exp(snr), 0))
    np.testing.assert_allclose(-snr_slope * over_snr, weight, rtol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_gidd_without_uniform_noise_is_masked_diffusion(t):
    """The integrand tends to -log p / t at a mask, and to 0 where a token is visible."""
    objective = gidd(V, linear(), 1e-9, 2.0)
    view, logits = every_case(mixture.absorbing(V, linear()), t)
    surprise = -log_softmax(np.asarray(logits), axis=-1)[np.arange(len(logits)), view.targets]
    expected = np.where(view.tokens == V, surprise / t, 0)
    np.testing.assert_allclose(loss_of(objective)(logits, view), expected, atol=1e-6)


@pytest.mark.few(4)
@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("name", ["udlm linear", "udlm cosine", "duo"])
def test_udlm_and_duo_have_the_published_integrand(name, t):
    """alpha' / (V alpha) [V / a_z - V / b_z - sum_j (a_j / a_z) log(b_z a_j / (b_j a_z))], a = V alpha x + (1 - alpha)
    and b the same of the network.
    """
    objective = {"udlm linear": udlm(V, linear()), "udlm cosine": udlm(V, cosine()), "duo": duo(V)}[name]
    process = objective.parameterization(()).process
    view, logits = every_case(process, t)
    slope = (transitions(process, t + 1e-6) - transitions(process, t - 1e-6))[0] / 2e-6
    alpha, d_alpha = (forward[0] - forward[1] for forward in (transitions(process, t)[0], slope))
    z = np.asarray(view.tokens)[:, None]
    a = V * alpha * np.eye(V)[view.targets] + 1 - alpha
    b = V * alpha * softmax(logits) + 1 - alpha
    a_z, b_z = np.take_along_axis(a, z, 1), np.take_along_axis(b, z, 1)
    bracket = V / a_z - V / b_z - (a / a_z * np.log(b_z * a / (b * a_z))).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        loss_of(objective)(logits, view), (d_alpha / (V * alpha) * bracket)[:, 0], rtol=1e-6, atol=1e-9
    )
