"""What every process must be: a Markov chain whose closed forms, posteriors, rates and draws belong together."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import xlogy
from scipy.stats import chi2

from mdlm_jax.processes import PROCESSES, posterior
from mdlm_jax.processes.matrix import chain, discretised_gaussian, from_matrices
from mdlm_jax.processes.mixture import absorbing, gidd, hybrid, uniform
from mdlm_jax.processes.state_dependent import powers
from mdlm_jax.schedules import clipped, cosine, linear, polynomial

V, T = 3, 4
BIRTH_DEATH = ((-1.0, 1.0, 0.0), (0.5, -1.5, 1.0), (0.0, 2.0, -2.0))


def make(name: str):
    """Made when used: a process keeps the precision it was made in."""
    return {
        "absorbing": lambda: absorbing(V, linear()),
        "uniform": lambda: uniform(V, cosine()),
        "hybrid": lambda: hybrid(V, linear(), 0.4),
        "gidd": lambda: gidd(V, linear(), 0.2),
        "powers": lambda: powers(V, jnp.array([0.5, 1.0, 3.0])),
        "chain": lambda: chain(np.array(BIRTH_DEATH), polynomial(2.0)),
        "gaussian_matrix": lambda: discretised_gaussian(V, T),
        "matrices": lambda: from_matrices(np.random.default_rng(0).dirichlet(np.ones(V), (T, V)), np.full(V, 1 / V)),
    }[name]()


CONTINUOUS = ("absorbing", "uniform", "hybrid", "gidd", "powers", "chain")
ALL = (*CONTINUOUS, "gaussian_matrix", "matrices")
every = pytest.mark.parametrize("name", ALL)
continuous = pytest.mark.parametrize("name", CONTINUOUS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def cumulative(process, t) -> np.ndarray:
    """q(x_t = z | x_0 = v), [V, S]."""
    return np.asarray(process.forward(jnp.eye(V), jnp.full(V, t)))


def transition(process, s, t) -> np.ndarray:
    """q(x_t = z | x_s = y), [S, S]."""
    z = jnp.arange(process.states)
    return np.asarray(process.backward(z, jnp.full(z.shape, s), jnp.full(z.shape, t))).T


def generator(process, t) -> np.ndarray:
    """R_t(y, z), rows summing to 0."""
    z = jnp.arange(process.states)
    rates = np.asarray(process.rate(z, jnp.full(z.shape, t))).T
    return rates - np.diag(rates.sum(axis=1))


@pytest.mark.few(4)
@every
def test_forward_is_the_product_of_steps(name):
    process, product = make(name), np.eye(V, make(name).states)
    for step in range(T):
        one = transition(process, step / T, (step + 1) / T)
        assert one.min() >= -1e-16
        rows = one[: V if step == 0 else None]  # at the start nothing is masked, and a mask goes anywhere
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-14)
        product = product @ one
        np.testing.assert_allclose(product, cumulative(process, (step + 1) / T), atol=1e-13)


@every
def test_posterior_is_bayes_over_all_paths(name):
    """q(x_2 | x_3 = z, x_0) from the probability of every path x_0 .. x_3; also mixed over a distribution of x_0."""
    process = make(name)
    steps = [transition(process, step / T, (step + 1) / T) for step in range(3)]
    probs = np.random.default_rng(1).dirichlet(np.ones(V))
    joint = np.zeros((V, process.states, process.states))
    for x, a, b, z in itertools.product(range(V), *[range(process.states)] * 3):
        joint[x, b, z] += steps[0][x, a] * steps[1][a, b] * steps[2][b, z]
    s, t = jnp.full(1, 2 / T), jnp.full(1, 3 / T)
    for z in range(process.states):
        for x in range(V):
            if joint[x, :, z].sum() > 0:
                bayes = joint[x, :, z] / joint[x, :, z].sum()
                ours = posterior(process, jnp.full(1, z), jnp.eye(V)[x : x + 1], s, t)[0]
                np.testing.assert_allclose(ours, bayes, atol=1e-13)
        mixed = probs @ joint[:, :, z]
        ours = posterior(process, jnp.full(1, z), jnp.asarray(probs)[None], s, t)[0]
        np.testing.assert_allclose(ours, mixed / mixed.sum(), atol=1e-13)
        np.testing.assert_allclose(ours.sum(), 1, atol=1e-14)


@continuous
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_rates_are_the_slope_of_transitions(name, t):
    """Kolmogorov's forward equation, and P(s, t) for s near t, by central differences."""
    process, step = make(name), 1e-5
    rates = generator(process, t)
    slope = (cumulative(process, t + step) - cumulative(process, t - step)) / (2 * step)
    np.testing.assert_allclose(cumulative(process, t) @ rates, slope, atol=1e-7)
    if name == "hybrid" or name == "powers" or name == "absorbing":
        assert (rates[V] == 0).all()  # the mask absorbs
    outgoing = process.exit(jnp.arange(process.states), jnp.full(process.states, t))
    np.testing.assert_allclose(outgoing, -np.diag(rates), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "generator_of"),
    [
        ("uniform", lambda: np.full((V, V), 1 / V) - np.eye(V)),
        ("absorbing", lambda: np.vstack([np.hstack([-np.eye(V), np.ones((V, 1))]), np.zeros((1, V + 1))])),
    ],
)
def test_closed_forms_are_matrix_exponentials(name, generator_of):
    """Q_t = expm(sigma(t) R), sigma = -log alpha; and `chain` of that generator is the process itself."""
    process, generator_of = make(name), generator_of()
    same = chain(generator_of, cosine() if name == "uniform" else linear(), vocab=V)
    for t in (0.1, 0.5, 0.95):
        kept = 1 - float((cosine() if name == "uniform" else linear())(jnp.float64(t)))
        exponential = expm(-np.log(kept) * generator_of)[:V]
        np.testing.assert_allclose(cumulative(process, t), exponential, atol=1e-13)
        np.testing.assert_allclose(cumulative(same, t), exponential, atol=1e-13)
        np.testing.assert_allclose(transition(same, t / 3, t), transition(process, t / 3, t), atol=1e-12)
        np.testing.assert_allclose(generator(same, t), generator(process, t), rtol=1e-12, atol=1e-12)


@pytest.mark.few(1)
@continuous
def test_exact_reverse_rates_recover_the_data(name):
    """Runge-Kutta along dp/ds of Rhat(x, y) = R(y, x) p_t(y) / p_t(x), from p_1' at t = 0.9 down to 0.1."""
    process, probs = make(name), np.random.default_rng(2).dirichlet(np.ones(V))

    def reverse_generator(t):
        p = probs @ cumulative(process, t)
        rates = generator(process, t).T * p[None, :] / np.maximum(p[:, None], 1e-300)
        np.fill_diagonal(rates, 0)
        return rates - np.diag(rates.sum(axis=1))

    def slope(t, p):
        return -p @ reverse_generator(t)

    num_steps = 200
    p, h = probs @ cumulative(process, 0.9), -0.8 / num_steps
    for step in range(num_steps):
        t = 0.9 + step * h
        k1 = slope(t, p)
        k2 = slope(t + h / 2, p + h / 2 * k1)
        k3 = slope(t + h / 2, p + h / 2 * k2)
        k4 = slope(t + h, p + h * k3)
        p = p + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    np.testing.assert_allclose(p, probs @ cumulative(process, 0.1), atol=2e-8)


@every
def test_samples_follow_forward(name):
    process, t, num = make(name), 0.5, 40_000
    x = jnp.tile(jnp.arange(V), num)
    z = np.asarray(process.sample(jax.random.key(3), x, jnp.full(1, t)))
    counts = np.stack([np.bincount(z[v::V], minlength=process.states) for v in range(V)])
    assert_drawn(counts, cumulative(process, t), num)


@continuous
def test_jumps_follow_the_rates(name):
    process, t, num = make(name), 0.5, 40_000
    rates = generator(process, t)
    np.fill_diagonal(rates, 0)
    leaving = np.flatnonzero(rates.sum(axis=1) > 0)
    x = jnp.tile(jnp.asarray(leaving), num)
    y = np.asarray(process.jump(jax.random.key(4), x, jnp.full(1, t)))
    counts = np.stack([np.bincount(y[i :: len(leaving)], minlength=process.states) for i in range(len(leaving))])
    assert_drawn(counts, rates[leaving] / rates[leaving].sum(axis=1, keepdims=True), num)


def assert_drawn(counts, probs, num):
    assert (counts[probs == 0] == 0).all()
    possible = probs > 0
    statistic = ((counts - num * probs)[possible] ** 2 / (num * probs[possible])).sum()
    freedom = int((possible.sum(axis=1) - 1).sum())
    assert statistic == 0 if freedom == 0 else chi2.sf(statistic, freedom) > 1e-4


@every
def test_prior_loss_is_the_terminal_divergence(name):
    process = make(name)
    ends, prior = cumulative(process, 1.0), np.asarray(process.prior)
    np.testing.assert_allclose(prior.sum(), 1, atol=1e-12)
    known = np.where(ends > 1e-25, ends * (np.log(np.maximum(ends, 1e-300)) - np.log(np.maximum(prior, 1e-300))), 0)
    np.testing.assert_allclose(process.prior_and_reconstruction_loss(jnp.arange(V)), known.sum(axis=1), atol=1e-12)


def test_unfinished_schedule_costs_log_v_per_token():
    """A token that is still visible at t = 1 costs log V."""
    process = absorbing(V, lambda t: 0.9 * t)
    np.testing.assert_allclose(process.prior_and_reconstruction_loss(jnp.arange(V)), 0.1 * np.log(V), atol=1e-12)


def test_absorbing_unmask_probability():
    """P(unmask in (s, t]) = (alpha_s - alpha_t) / (1 - alpha_t)."""
    process, s, t = absorbing(V, cosine()), 0.3, 0.6
    probs = jnp.full((1, V), 1 / V)
    back = posterior(process, jnp.full(1, V), probs, jnp.full(1, s), jnp.full(1, t))[0]
    noised = np.sin(np.pi / 2 * np.array([s, t]))
    np.testing.assert_allclose(back[:V].sum(), (noised[1] - noised[0]) / noised[1], atol=1e-14)


def test_discretised_gaussian_is_doubly_stochastic():
    """Its last distribution is uniform."""
    process = discretised_gaussian(16, 50)
    for t in (0.02, 0.5, 1.0):
        step = np.asarray(process.forward(jnp.eye(16), jnp.full(16, t)))
        np.testing.assert_allclose(step.sum(axis=0), 1, atol=1e-13)
        np.testing.assert_allclose(step.sum(axis=1), 1, atol=1e-13)
    assert process.prior_and_reconstruction_loss(jnp.arange(16)).max() < 0.01
    np.testing.assert_allclose(process.prior, 1 / 16)


def test_noise_is_accurate_in_float32():
    """t^w at w = 3, t = 1e-3: 1 - alpha computed as 1 - (1 - t^w) has no correct digit."""
    with jax.enable_x64(False):
        process = powers(V, jnp.array([1.0, 2.0, 3.0]))
        lost = process.forward(jnp.eye(V), jnp.full(V, 1e-3))[:, V]
    np.testing.assert_allclose(lost, [1e-3, 1e-6, 1e-9], rtol=1e-6)


def test_every_process_is_tested_here():
    assert set(PROCESSES) <= set(ALL)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_uniform_share_of_gidd_is_that_of_the_middle(gamma):
    """Where m = 1/2 uniform noise has the probability p_u, and it spreads over all V tokens, for every gamma."""
    for share in (0.2, 0.7):
        probs = cumulative(gidd(V, linear(), share, gamma), 0.5)
        np.testing.assert_allclose(probs[0], [(1 - share) / 2 + share / V, *[share / V] * (V - 1), (1 - share) / 2])


@pytest.mark.parametrize("name", ["absorbing", "uniform", "hybrid"])
def test_noise_at_time_0_costs_reconstruction(name):
    """The loss is the entropy of x_0 given the state at t = 0, by Bayes' rule with a uniform prior."""
    arguments = (0.3,) if name == "hybrid" else ()
    with jax.enable_x64(True):
        process = PROCESSES[name](V, clipped(linear(), 0.1, 1.0), *arguments)
        probs = np.asarray(process.forward(jnp.eye(V), jnp.zeros(V)))
        known = -xlogy(probs, probs / probs.sum(axis=0)).sum(axis=1)
        np.testing.assert_allclose(process.prior_and_reconstruction_loss(jnp.arange(V)), known, atol=1e-12)
        clean = PROCESSES[name](V, linear(), *arguments)
        np.testing.assert_allclose(clean.prior_and_reconstruction_loss(jnp.arange(V)), 0, atol=1e-12)


def test_posterior_keeps_a_visible_token():
    """A distribution that rules out the visible token does not change it."""
    probs = posterior(
        absorbing(3, linear()), jnp.array([0, 3]), jnp.array([[0.0, 1.0, 0.0]] * 2), *jnp.array([0.2, 0.5])
    )
    np.testing.assert_allclose(probs, [[1, 0, 0, 0], [0, 0.6, 0, 0.4]], atol=1e-6)
