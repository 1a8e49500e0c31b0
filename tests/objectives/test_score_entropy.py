"""Score entropy: its forms, its published formulas and what its scores mean. Enumeration in float64."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, xlogy

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.exact import nats, random_toy_distribution
from mdlm_jax.exact.bounds import tanh_sinh
from mdlm_jax.exact.evidence import best_network
from mdlm_jax.objectives.parameterizations import full_posterior, leave_one_out, scaled_score, score
from mdlm_jax.objectives.score_entropy import duo, score_entropy, sedd, udlm
from mdlm_jax.processes import mixture
from mdlm_jax.processes.base import likelihood, ratio, ratio_of_posterior
from mdlm_jax.schedules import clipped, cosine, linear, noise_rate, polynomial
from tests.exact.enumeration import bounds, table
from tests.objectives.one_position import TIMES, V, every_case, loss_of, rates, transitions, view_of
from tests.once import once


@functools.cache
def toy():
    return random_toy_distribution(0, V, length=2)


PROCESSES = {
    "absorbing": lambda: mixture.absorbing(V, cosine()),
    "uniform": lambda: mixture.uniform(V, cosine()),
    "hybrid": lambda: mixture.hybrid(V, cosine(), 0.4),
    "gidd": lambda: mixture.gidd(V, linear(), 0.2, 1.0),
}
over_processes = pytest.mark.parametrize("process", PROCESSES)
scored_by_ratios = pytest.mark.parametrize("name", ["absorbing", "uniform", "hybrid"])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def entropy_forms(process, oracle, t):
    """(score entropy against the true ratios, its implicit form, the price of not knowing them), by enumeration."""
    forward, into = transitions(process, t), rates(process, t)[:, : process.vocab]
    probs = forward.T @ toy().probability @ forward  # p_t, two positions
    explicit = implicit = price = 0.0
    for z in np.ndindex(probs.shape):
        scores = np.exp(np.asarray(oracle(view_of(jnp.asarray(z), jnp.zeros(2, int), t))))
        for position in range(2):
            for y in range(process.vocab):
                other = tuple(y if i == position else z[i] for i in range(2))
                rate, s = into[z[position], y], scores[position, y]
                if rate == 0 or y == z[position]:
                    continue
                true = probs[other] / probs[z]
                explicit += probs[z] * rate * (s - true * np.log(s) + true * (np.log(true) - 1))
                implicit += probs[z] * rate * s - probs[other] * rate * np.log(s)
                for x in toy().tokens:
                    chance = toy().probability[tuple(x)] * forward[x[0], z[0]] * forward[x[1], z[1]]
                    if chance:
                        r = forward[x[position], y] / forward[x[position], z[position]]
                        price += chance * rate * (xlogy(r, r) - r - (xlogy(true, true) - true))
    return explicit, implicit, price


@pytest.mark.few(3)
@scored_by_ratios
@pytest.mark.parametrize("t", TIMES)
def test_score_entropy_forms_differ_by_constants(name, t):
    """DSE - SE = E[K(r)] - K(E r) >= 0 with K(a) = a (log a - 1), and SE - ISE is the same for two networks."""
    process = once(PROCESSES[name])
    objective = sedd(process, "raw")
    networks = [table(seed, process.states, 2, V) for seed in (1, 2)]
    denoising = [toy().probability.ravel() @ bounds(objective, each, toy().tokens, [t], [1.0]) for each in networks]
    explicit, implicit, price = zip(*(entropy_forms(process, each, t) for each in networks), strict=True)
    np.testing.assert_allclose(np.subtract(denoising, explicit), price, atol=1e-12)
    assert price[0] >= 0
    assert explicit[0] - implicit[0] == pytest.approx(explicit[1] - implicit[1], rel=1e-12)
    assert abs(explicit[0] - explicit[1]) > 1e-3


@scored_by_ratios
def test_score_entropy_is_zero_at_the_true_ratios(name):
    process = once(PROCESSES[name])
    oracle = jax.jit(best_network(sedd(process, "raw"), toy()))
    assert abs(entropy_forms(process, oracle, 0.5)[0]) < 1e-12


@scored_by_ratios
def test_partial_integral_misses_the_remaining_divergence(name):
    """integral over [0, T] + KL(q_T(. | x) || p_T) = -log p(x), with the true scores, for every x."""
    process, end = once(PROCESSES[name]), 0.7
    objective = sedd(process, "raw")
    times, weights = tanh_sinh(60)
    value = bounds(objective, best_network(objective, toy()), toy().tokens, end * times, end * weights)
    forward = transitions(process, end)
    probs = forward.T @ toy().probability @ forward
    of_x = forward[toy().tokens[:, 0], :, None] * forward[toy().tokens[:, 1], None, :]
    left = (xlogy(of_x, of_x) - xlogy(of_x, probs)).sum(axis=(1, 2))
    np.testing.assert_allclose(value + left, nats(toy()), atol=1e-9)


@pytest.mark.parametrize("kind", ["denoiser", "scaled"])
@pytest.mark.parametrize("t", TIMES)
def test_absorbing_is_weighted_cross_entropy(kind, t):
    """-alpha' / (1 - alpha) x -log c at a mask, at every t, z and x, if the scores are c / (e^sigma - 1), sum c = 1.

    Scaled logits are log(V c), so that zeros are a distribution.
    """
    process = once(PROCESSES["absorbing"])
    view, logits = every_case(process, t)
    log_distribution = log_softmax(logits, axis=-1)
    weight = float(noise_rate(cosine(), jnp.float64(t))[1])
    surprise = -log_distribution[np.arange(len(log_distribution)), view.targets]
    expected = np.where(view.tokens == V, weight * surprise, 0)
    said = jnp.asarray(log_distribution + (np.log(V) if kind == "scaled" else 0))
    np.testing.assert_allclose(loss_of(sedd(process, kind))(said, view), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["raw", "scaled"])
@pytest.mark.parametrize("total", [0.3, 1.0, 4.0])
def test_unnormalised_scores_cost_extra(kind, total):
    """Scores Z c instead of c add sigma' (Z - 1 - log Z) / (e^sigma - 1) at each mask."""
    process, t = once(PROCESSES["absorbing"]), 0.4
    view, logits = every_case(process, t)
    noised, weight = (float(value) for value in noise_rate(cosine(), jnp.float64(t)))
    normalised = log_softmax(logits, axis=-1) + np.log(V if kind == "scaled" else (1 - noised) / noised)
    loss = loss_of(sedd(process, kind))
    right, off = (loss(jnp.asarray(normalised + shift), view) for shift in (0.0, float(np.log(total))))
    extra = weight * (total - 1 - np.log(total))
    np.testing.assert_allclose(off - right, np.where(view.tokens == V, extra, 0), atol=1e-12)


@pytest.mark.parametrize("t", TIMES)
def test_uniform_noise_matches_sedd_code(t):
    """sigma' (1 / V) sum over y != z of [s - r log s + r (log r - 1)], as in SEDD's code."""
    process = once(PROCESSES["uniform"])
    view, logits = every_case(process, t)
    forward = transitions(process, t)
    r = forward[view.targets] / forward[view.targets, view.tokens][:, None]
    s = np.exp(np.asarray(logits))
    each = np.where(np.arange(V) == np.asarray(view.tokens)[:, None], 0, s - r * np.log(s) + r * (np.log(r) - 1))
    noised, weight = (float(value) for value in noise_rate(cosine(), jnp.float64(t)))
    decay = weight * noised / (1 - noised)
    np.testing.assert_allclose(loss_of(sedd(process, "raw"))(logits, view), decay / V * each.sum(axis=1), rtol=1e-12)


@over_processes
@pytest.mark.parametrize("t", TIMES)
def test_ratio_follows_from_either_posterior(process, t):
    """p_t(y) / p_t(z) = sum_x p(x | all) q(y | x) / q(z | x) = (u Q)_y / (u Q)_z with u = p(x | other positions)."""
    process = once(PROCESSES[process])
    forward = transitions(process, t)
    probs = forward.T @ toy().probability @ forward
    for z in np.ndindex(probs.shape):
        others = toy().probability @ forward[:, z[1]]
        posterior = others * forward[:, z[0]]
        here, now = jnp.asarray(z[0]), jnp.float64(t)
        true = probs[:, z[1]] / probs[z]
        left_out = ratio(process, here, jnp.asarray(others / others.sum()), now)
        np.testing.assert_allclose(left_out, true, rtol=1e-12)
        if (forward[:, z[0]] > 0).all():
            counted = ratio_of_posterior(process, here, jnp.asarray(posterior / posterior.sum()), now)
            np.testing.assert_allclose(counted, true, rtol=1e-12)


def test_raw_scores_refuse_gidd():
    """GIDD moves masked tokens to other states, which raw scores cannot express."""
    with pytest.raises(UserError, match="accepted: denoiser"):
        sedd(once(PROCESSES["gidd"]), "raw")


def of(parameterization, name):
    return parameterization(once(PROCESSES[name]))


PARAMETERIZATIONS = {
    **{f"leave one out, {name}": partial(of, leave_one_out, name) for name in PROCESSES},
    **{f"full posterior, {name}": partial(of, full_posterior, name) for name in PROCESSES},
    **{f"score, {name}": partial(of, score, name) for name in ("absorbing", "uniform", "hybrid")},
    "scaled score, absorbing": partial(of, scaled_score, "absorbing"),
}


@pytest.mark.few(12)
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("t", TIMES)
def test_parameterizations_round_trip(name, t):
    """logits -> distribution and logits -> ratios undo distribution -> logits, wherever z leaves any token possible."""
    parameterization = once(PARAMETERIZATIONS[name])
    process = parameterization.process
    own = likelihood(process, jnp.arange(process.states), jnp.full(process.states, t))
    z = jnp.asarray(np.flatnonzero((np.asarray(own) > 0).all(axis=1)))
    probs = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(V), size=len(z)))
    level = jnp.full(len(z), t)
    logits = parameterization.logits(probs, z, level)
    np.testing.assert_allclose(parameterization.probs(logits, z, level), probs, rtol=1e-10)
    said = parameterization.log_ratio(logits, z, level)
    true = np.log(ratio(process, z, probs, level))[:, : said.shape[-1]]
    elsewhere = np.arange(said.shape[-1]) != np.asarray(z)[:, None]
    np.testing.assert_allclose(said[elsewhere], true[elsewhere], atol=1e-12)


@pytest.mark.parametrize("kind", ["uniform", "hybrid"])
def test_bound_is_schedule_invariant(kind):
    """A network that does not read t has the same integral under every schedule, Duo's included."""
    schedules = {"linear": linear(), "cosine": cosine(), "square": polynomial(2.0)}
    network = table(3, V + 1, 2, V)
    processes = [
        mixture.uniform(V, each) if kind == "uniform" else mixture.hybrid(V, each, 0.4) for each in schedules.values()
    ]
    objectives = [score_entropy(leave_one_out(process), timed=True) for process in processes]
    if kind == "uniform":
        objectives.append(duo(V))
    some = toy().tokens[[0, 1, 7]]
    values = [bounds(objective, network, some, *tanh_sinh(100)) for objective in objectives]
    np.testing.assert_allclose(values, np.broadcast_to(values[0], (len(values), 3)), rtol=2e-6)


def test_clipped_schedule_covers_only_its_range():
    """The linear schedule clipped to noise in [0.1, 0.9] gives the integral over that range."""
    process = mixture.absorbing(V, linear())
    network = table(4, V + 1, 2, V)
    some = toy().tokens[[0, 5]]
    times, weights = tanh_sinh(40)
    inside = bounds(sedd(process, "denoiser"), network, some, 0.1 + 0.8 * times, 0.8 * weights)
    part = sedd(mixture.absorbing(V, clipped(linear(), 0.1, 0.9)), "denoiser")
    prior = part.parameterization(()).process.prior_and_reconstruction_loss(jnp.asarray(some)).sum(axis=1)
    np.testing.assert_allclose(bounds(part, network, some, times, weights) - prior, inside, rtol=1e-9)


def test_importance_sampled_times_are_unbiased():
    """The weight is dt/dv, so that the mean over v is the mean over t."""
    example = Example(jnp.array([0, 1], jnp.int32), jnp.ones(2, jnp.int32), jnp.zeros(2, bool))
    spread = udlm(3, linear()).evaluate

    def view(v):
        return spread.view((), jax.random.key(0), example, v)

    v = jnp.linspace(0.02, 0.98, 49)
    slope = jax.vmap(jax.grad(lambda v: view(v).t[0, 0]))(v)
    np.testing.assert_allclose(jax.vmap(view)(v).weight[:, 0, 0], slope, rtol=1e-5)
    ends = [float(view(v).t[0, 0]) for v in (0.0, 1.0)]
    np.testing.assert_allclose(ends, [0, 1], atol=2e-6)
