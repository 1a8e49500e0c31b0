"""Gaussian noise against closed forms and quadrature, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import roots_hermitenorm

from mdlm_jax.errors import UserError
from mdlm_jax.exact.bounds import gauss_legendre
from mdlm_jax.processes import gaussian_vectors
from mdlm_jax.processes.gaussian_vectors import alpha_sigma, cosine_log_snr, linear_log_snr

HIGH, LOW = 9.0, -12.0
SCHEDULES = {
    "linear": lambda: linear_log_snr(HIGH, LOW),
    "square": lambda: lambda t: HIGH + (LOW - HIGH) * t**2,
    "cosine": lambda: cosine_log_snr(HIGH, LOW),
    "moved cosine": lambda: cosine_log_snr(HIGH, LOW, centre=-1.0),
}
LEVELS = (-4.0, 0.5, 3.0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_predictions_convert_into_one_another():
    """z = alpha x + sigma eps and v = alpha eps - sigma x give x = alpha z - sigma v and eps = sigma z + alpha v."""
    x, noise, log_snr = drawn(0, 3, 2), drawn(1, 3, 2), jnp.asarray(LEVELS)
    alpha, sigma = (np.asarray(factor)[:, None] for factor in alpha_sigma(log_snr))
    z = jnp.asarray(alpha * x + sigma * noise)
    velocity = alpha * noise - sigma * x
    np.testing.assert_allclose(gaussian_vectors.noise_of(z, jnp.asarray(x), log_snr), noise, atol=1e-13)
    np.testing.assert_allclose(gaussian_vectors.clean_of(z, jnp.asarray(noise), log_snr), x, atol=1e-13)
    np.testing.assert_allclose(alpha * z - sigma * velocity, x, atol=1e-13)
    np.testing.assert_allclose(sigma * z + alpha * velocity, noise, atol=1e-13)

    def log_q(z):
        return jax.scipy.stats.norm.logpdf(z, alpha * x, sigma).sum()

    np.testing.assert_allclose(gaussian_vectors.score(jnp.asarray(noise), log_snr), jax.grad(log_q)(z), atol=1e-12)


def test_samples_have_the_process_moments():
    x, log_snr = jnp.asarray([[1.5, -0.5]]), jnp.asarray([0.7])
    alpha, sigma = (float(factor[0]) for factor in alpha_sigma(log_snr))
    z = np.asarray(gaussian_vectors.sample(jax.random.key(0), jnp.broadcast_to(x, (20_000, 2)), log_snr))
    np.testing.assert_allclose(z.mean(axis=0), alpha * x[0], atol=4 * sigma / 20_000**0.5)
    np.testing.assert_allclose(z.std(axis=0), sigma, rtol=4 / 40_000**0.5)


@pytest.mark.parametrize(("s", "t"), [(2.0, 1.0), (6.0, -6.0), (0.5, 0.4)])
def test_posterior_is_bayes_rule(s, t):
    """q(z_s | z_t, x) = q(z_s | x) q(z_t | z_s) / q(z_t | x): precisions add up, and so do their means."""
    x, z = drawn(2, 1, 3), drawn(3, 1, 3)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (map(float, alpha_sigma(jnp.asarray(level))) for level in (s, t))
    factor = alpha_t / alpha_s
    variance_between = sigma_t**2 - factor**2 * sigma_s**2
    precision = 1 / sigma_s**2 + factor**2 / variance_between
    expected = (alpha_s * x / sigma_s**2 + factor * z / variance_between) / precision
    mean, variance = gaussian_vectors.posterior(jnp.asarray(z), jnp.asarray(x), jnp.asarray([s]), jnp.asarray([t]))
    np.testing.assert_allclose(variance[0], 1 / precision, rtol=1e-12)
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


def test_reverse_step_samples_the_posterior():
    z, x = jnp.full((20_000, 1), 0.3), jnp.full((20_000, 1), -1.0)
    s, t = jnp.asarray([1.0]), jnp.asarray([0.0])
    mean, variance = gaussian_vectors.posterior(z, x, s, t)
    drawn = np.asarray(gaussian_vectors.reverse_step(jax.random.key(0), z, x, s, t))
    assert abs(drawn.mean() - float(mean[0, 0])) < 4 * (float(variance[0]) / 20_000) ** 0.5
    np.testing.assert_allclose(drawn.var(), variance[0], rtol=4 * (2 / 20_000) ** 0.5)


def test_reverse_steps_converge_as_one_over_steps():
    """With the best estimate the reverse steps recover a normal distribution.

    x
     N(0, c^2), E[x | z] = alpha c^2 z / (alpha^2 c^2 + sigma^2): each step is linear in z with known variance.
    """
    c, one = 0.6, jnp.ones((1, 1))

    def reached(num_steps):
        levels, variance = np.linspace(LOW, HIGH, num_steps + 1), 1.0
        for t, s in zip(levels[:-1], levels[1:], strict=True):
            alpha, sigma = map(float, alpha_sigma(jnp.asarray(t)))
            estimate = one * alpha * c**2 / (alpha**2 * c**2 + sigma**2)
            slope, added = gaussian_vectors.posterior(one, estimate, jnp.asarray([s]), jnp.asarray([t]))
            variance = float(slope[0, 0]) ** 2 * variance + float(added[0])
        return variance

    alpha, sigma = map(float, alpha_sigma(jnp.asarray(HIGH)))
    wrong = [abs(reached(num_steps) - (alpha**2 * c**2 + sigma**2)) for num_steps in (250, 500)]
    assert wrong[1] < 0.01 and wrong[0] / wrong[1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("log_snr", LEVELS)
def test_score_matching_forms_differ_by_a_constant(log_snr):
    """E|s - score(z | x)|^2 - E|s - score(z)|^2 = d / sigma^2 - E|score(z)|^2 for all s; x is one of 3 points."""
    points, probs = drawn(4, 3, 2), np.array([0.5, 0.2, 0.3])
    alpha, sigma = map(float, alpha_sigma(jnp.asarray(log_snr)))
    axis = np.linspace(-9, 9, 361)
    z = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2))
    own = jax.scipy.stats.norm.logpdf(z, alpha * points, sigma).sum(axis=-1)
    joint = probs * np.exp(own) * (axis[1] - axis[0]) ** 2
    density = joint.sum(axis=1)
    conditional = gaussian_vectors.score(
        gaussian_vectors.noise_of(*jnp.broadcast_arrays(z, points), jnp.asarray([log_snr])), jnp.asarray([log_snr])
    )
    marginal = (joint[..., None] * conditional).sum(axis=1) / np.maximum(density, 1e-300)[:, None]
    constant = 2 / sigma**2 - (density * (marginal**2).sum(axis=-1)).sum()
    for network in (lambda z: 0 * z, lambda z: -z, lambda z: jnp.sin(z[:, ::-1]) + 0.3):
        said = network(z[:, 0])
        denoising = (joint * ((said[:, None] - conditional) ** 2).sum(axis=-1)).sum()
        explicit = (density * ((said - marginal) ** 2).sum(axis=-1)).sum()
        np.testing.assert_allclose(denoising - explicit, constant, rtol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_likelihood_weights_agree_for_x_and_score(name):
    """-dSNR/dt |x - x_hat|^2 = g^2 |score(z | x) - score_hat|^2 with g^2 = d sigma^2/dt - 2 sigma^2 d log alpha/dt, the
    diffusion of the process."""
    schedule, t = SCHEDULES[name](), jnp.asarray([0.1, 0.5, 0.8])
    log_snr = schedule(t)
    z, x, estimate = (jnp.asarray(drawn(seed, 3, 4)) for seed in (5, 6, 7))

    def of_time(t):
        alpha, sigma = alpha_sigma(schedule(t))
        return jnp.log(alpha), sigma**2

    (_, variance), (slope, variance_slope) = jax.jvp(of_time, (t,), (jnp.ones_like(t),))
    score, said = (gaussian_vectors.score(gaussian_vectors.noise_of(z, of, log_snr), log_snr) for of in (x, estimate))
    matching = (variance_slope - 2 * variance * slope) * ((score - said) ** 2).sum(axis=-1)
    np.testing.assert_allclose(
        gaussian_vectors.snr_rate(schedule, t) * ((x - estimate) ** 2).sum(axis=-1), matching, rtol=1e-9
    )


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
def test_normal_bound_is_the_entropy(name, c):
    """Holds for every schedule between the same ends.

    KL to the prior + h(x | z_0) + 1/2 integral of MMSE dSNR = 1/2 log(2 pi e c^2), MMSE = c^2 / (1 + SNR c^2).
    """
    schedule = SCHEDULES[name]()
    nodes, weights = roots_hermitenorm(20)
    prior = (
        gaussian_vectors.prior_nats(jnp.asarray(c * nodes)[:, None], schedule(jnp.ones(1))) @ weights / weights.sum()
    )
    readout = 0.5 * np.log(2 * np.pi * np.e * c**2 / (1 + np.exp(HIGH) * c**2))
    t, weight = gauss_legendre(200)
    snr = np.exp(schedule(jnp.asarray(t)))
    diffusion = 0.5 * weight @ (gaussian_vectors.snr_rate(schedule, jnp.asarray(t)) * c**2 / (1 + snr * c**2))
    assert float(prior) + readout + float(diffusion) == pytest.approx(0.5 * np.log(2 * np.pi * np.e * c**2), abs=1e-4)


def test_prior_divergence_is_that_of_normals():
    """KL(N(m, s^2 I) || N(0, I)) = 1/2 (|m|^2 + d (s^2 - 1 - log s^2))."""
    x, log_snr = jnp.asarray(drawn(8, 3, 4)), jnp.asarray([-1.0, 0.0, 2.0])
    alpha, sigma = alpha_sigma(log_snr)
    expected = 0.5 * (alpha**2 * (x**2).sum(axis=-1) + 4 * (sigma**2 - 1 - jnp.log(sigma**2)))
    np.testing.assert_allclose(gaussian_vectors.prior_nats(x, log_snr), expected, rtol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_decrease_between_their_ends(name):
    log_snr = np.asarray(SCHEDULES[name]()(jnp.linspace(0, 1, 101)))
    np.testing.assert_allclose(log_snr[[0, -1]], (HIGH, LOW), rtol=1e-9)
    assert (np.diff(log_snr) < 0).all()


def test_cosine_alpha_is_cosine_of_linear_angle():
    alpha, _ = alpha_sigma(SCHEDULES["cosine"]()(jnp.linspace(0, 1, 101)))
    np.testing.assert_allclose(np.diff(np.arccos(alpha), 2), 0, atol=1e-12)


@pytest.mark.parametrize("schedule", [linear_log_snr, cosine_log_snr])
def test_non_increasing_noise_is_refused(schedule):
    with pytest.raises(UserError, match="high above low"):
        schedule(-1.0, 1.0)
