"""Score entropy: its forms, its published formulas and what its scores mean. Enumeration in float64."""

import functools

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
from mdlm_jax.objectives.base import View
from mdlm_jax.objectives.parameterizations import full_posterior, leave_one_out, scaled_score, score
from mdlm_jax.objectives.score_entropy import duo, gidd, score_entropy, sedd, udlm
from mdlm_jax.processes import mixture
from mdlm_jax.processes.base import likelihood, ratio, ratio_of_posterior
from mdlm_jax.schedules import clipped, cosine, linear, noise_rate, polynomial
from tests.exact.enumeration import bounds, table

V = 3
TOY = random_toy_distribution(0, V, length=2)
LINEAR, COSINE = linear(), cosine()
PROCESSES = {
    "absorbing": mixture.absorbing(V, COSINE),
    "uniform": mixture.uniform(V, COSINE),
    "hybrid": mixture.hybrid(V, COSINE, 0.4),
    "gidd": mixture.gidd(V, LINEAR, 0.2, 1.0),
}
TIMES = (0.1, 0.5, 0.93)
over_processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
scored_by_ratios = pytest.mark.parametrize("name", ["absorbing", "uniform", "hybrid"])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def transitions(process, t):
    """f64[V, S]: q(z | x)."""
    return np.asarray(process.forward(jnp.eye(process.vocab), jnp.float64(t)))


def rates(process, t):
    """f64[z, y]: from y into z."""
    return np.asarray(process.rate(jnp.arange(process.states), jnp.full(process.states, t)))


def every_case(process, t, logits_seed=1):
    """One position at t: every x and z that can be, with a network's logits, as (view, logits)."""
    x, z = np.indices((V, process.states)).reshape(2, -1)
    possible = transitions(process, t)[x, z] > 0
    x, z = (jnp.asarray(each[possible], jnp.int32) for each in (x, z))
    logits = np.random.default_rng(logits_seed).normal(size=(process.states, V))[z]
    return view_of(z, x, t), jnp.asarray(logits)


@functools.cache
def loss_of(objective):
    return jax.jit(functools.partial(objective.token_loss, ()))


def view_of(z, x, t):
    positions = jnp.arange(len(x))[:, None]
    return View(z, x, jnp.ones(len(x)), jnp.full(1, t), positions, positions, jnp.ones_like(x), jnp.float64(0))


def softmax(logits):
    return np.exp(log_softmax(np.asarray(logits), axis=-1))


def entropy_forms(process, oracle, t):
    """(score entropy against the true ratios, its implicit form, the price of not knowing them), by enumeration."""
    forward, into = transitions(process, t), rates(process, t)[:, : process.vocab]
    probs = forward.T @ TOY.probability @ forward  # p_t, two positions
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
                for x in TOY.tokens:
                    chance = TOY.probability[tuple(x)] * forward[x[0], z[0]] * forward[x[1], z[1]]
                    if chance:
                        r = forward[x[position], y] / forward[x[position], z[position]]
                        price += chance * rate * (xlogy(r, r) - r - (xlogy(true, true) - true))
    return explicit, implicit, price


@pytest.mark.few(3)
@scored_by_ratios
@pytest.mark.parametrize("t", TIMES)
def test_score_entropy_forms_differ_by_constants(name, t):
    """DSE - SE = E[K(r)] - K(E r) >= 0 with K(a) = a (log a - 1), and SE - ISE is the same for two networks."""
    process = PROCESSES[name]
    objective = sedd(process, "raw")
    networks = [table(seed, process.states, 2, V) for seed in (1, 2)]
    denoising = [TOY.probability.ravel() @ bounds(objective, each, TOY.tokens, [t], [1.0]) for each in networks]
    explicit, implicit, price = zip(*(entropy_forms(process, each, t) for each in networks), strict=True)
    np.testing.assert_allclose(np.subtract(denoising, explicit), price, atol=1e-12)
    assert price[0] >= 0
    assert explicit[0] - implicit[0] == pytest.approx(explicit[1] - implicit[1], rel=1e-12)
    assert abs(explicit[0] - explicit[1]) > 1e-3


@scored_by_ratios
def test_score_entropy_is_zero_at_the_true_ratios(name):
    process = PROCESSES[name]
    oracle = jax.jit(best_network(sedd(process, "raw"), TOY))
    assert abs(entropy_forms(process, oracle, 0.5)[0]) < 1e-12


@scored_by_ratios
def test_partial_integral_misses_the_remaining_divergence(name):
    """integral over [0, T] + KL(q_T(. | x) || p_T) = -log p(x), with the true scores, for every x."""
    process, end = PROCESSES[name], 0.7
    objective = sedd(process, "raw")
    times, weights = tanh_sinh(60)
    value = bounds(objective, best_network(objective, TOY), TOY.tokens, end * times, end * weights)
    forward = transitions(process, end)
    probs = forward.T @ TOY.probability @ forward
    of_x = forward[TOY.tokens[:, 0], :, None] * forward[TOY.tokens[:, 1], None, :]
    left = (xlogy(of_x, of_x) - xlogy(of_x, probs)).sum(axis=(1, 2))
    np.testing.assert_allclose(value + left, nats(TOY), atol=1e-9)


@pytest.mark.parametrize("kind", ["denoiser", "scaled"])
@pytest.mark.parametrize("t", TIMES)
def test_absorbing_is_weighted_cross_entropy(kind, t):
    """-alpha' / (1 - alpha) x -log c at a mask, at every t, z and x, if the scores are c / (e^sigma - 1), sum c = 1.

    Scaled logits are log(V c), so that zeros are a distribution.
    """
    process = PROCESSES["absorbing"]
    view, logits = every_case(process, t)
    log_distribution = log_softmax(logits, axis=-1)
    weight = float(noise_rate(COSINE, jnp.float64(t))[1])
    surprise = -log_distribution[np.arange(len(log_distribution)), view.targets]
    expected = np.where(view.tokens == V, weight * surprise, 0)
    said = jnp.asarray(log_distribution + (np.log(V) if kind == "scaled" else 0))
    np.testing.assert_allclose(loss_of(sedd(process, kind))(said, view), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["raw", "scaled"])
@pytest.mark.parametrize("total", [0.3, 1.0, 4.0])
def test_unnormalised_scores_cost_extra(kind, total):
    """Scores Z c instead of c add sigma' (Z - 1 - log Z) / (e^sigma - 1) at each mask."""
    process, t = PROCESSES["absorbing"], 0.4
    view, logits = every_case(process, t)
    noised, weight = (float(value) for value in noise_rate(COSINE, jnp.float64(t)))
    normalised = log_softmax(logits, axis=-1) + np.log(V if kind == "scaled" else (1 - noised) / noised)
    loss = loss_of(sedd(process, kind))
    right, off = (loss(jnp.asarray(normalised + shift), view) for shift in (0.0, float(np.log(total))))
    extra = weight * (total - 1 - np.log(total))
    np.testing.assert_allclose(off - right, np.where(view.tokens == V, extra, 0), atol=1e-12)


@pytest.mark.parametrize("t", TIMES)
def test_uniform_noise_matches_sedd_code(t):
    """sigma' (1 / V) sum over y != z of [s - r log s + r (log r - 1)], as in SEDD's code."""
    process = PROCESSES["uniform"]
    view, logits = every_case(process, t)
    forward = transitions(process, t)
    r = forward[view.targets] / forward[view.targets, view.tokens][:, None]
    s = np.exp(np.asarray(logits))
    each = np.where(np.arange(V) == np.asarray(view.tokens)[:, None], 0, s - r * np.log(s) + r * (np.log(r) - 1))
    noised, weight = (float(value) for value in noise_rate(COSINE, jnp.float64(t)))
    decay = weight * noised / (1 - noised)
    np.testing.assert_allclose(loss_of(sedd(process, "raw"))(logits, view), decay / V * each.sum(axis=1), rtol=1e-12)


@over_processes
@pytest.mark.parametrize("t", TIMES)
def test_ratio_follows_from_either_posterior(process, t):
    """p_t(y) / p_t(z) = sum_x p(x | all) q(y | x) / q(z | x) = (u Q)_y / (u Q)_z with u = p(x | other positions)."""
    forward = transitions(process, t)
    probs = forward.T @ TOY.probability @ forward
    for z in np.ndindex(probs.shape):
        others = TOY.probability @ forward[:, z[1]]
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
        sedd(PROCESSES["gidd"], "raw")


ANSWERS = {
    **{f"leave one out, {name}": leave_one_out(process) for name, process in PROCESSES.items()},
    **{f"full posterior, {name}": full_posterior(process) for name, process in PROCESSES.items()},
    **{f"score, {name}": score(PROCESSES[name]) for name in ("absorbing", "uniform", "hybrid")},
    "scaled score, absorbing": scaled_score(PROCESSES["absorbing"]),
}


@pytest.mark.few(12)
@pytest.mark.parametrize("parameterization", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("t", TIMES)
def test_parameterizations_round_trip(parameterization, t):
    """logits -> distribution and logits -> ratios undo distribution -> logits, wherever z leaves any token possible."""
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
    objective = gidd(V, LINEAR, 0.2, gamma)
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
    objective = gidd(V, LINEAR, 1e-9, 2.0)
    view, logits = every_case(mixture.absorbing(V, LINEAR), t)
    surprise = -log_softmax(np.asarray(logits), axis=-1)[np.arange(len(logits)), view.targets]
    expected = np.where(view.tokens == V, surprise / t, 0)
    np.testing.assert_allclose(loss_of(objective)(logits, view), expected, atol=1e-6)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("name", ["udlm linear", "udlm cosine", "duo"])
def test_udlm_and_duo_have_the_published_integrand(name, t):
    """alpha' / (V alpha) [V / a_z - V / b_z - sum_j (a_j / a_z) log(b_z a_j / (b_j a_z))], a = V alpha x + (1 - alpha)
    and b the same of the network.
    """
    objective = {"udlm linear": udlm(V, LINEAR), "udlm cosine": udlm(V, COSINE), "duo": duo(V)}[name]
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


@pytest.mark.parametrize("kind", ["uniform", "hybrid"])
def test_bound_is_schedule_invariant(kind):
    """A network that does not read t has the same integral under every schedule, Duo's included."""
    schedules = {"linear": LINEAR, "cosine": COSINE, "square": polynomial(2.0)}
    network = table(3, V + 1, 2, V)
    processes = [
        mixture.uniform(V, each) if kind == "uniform" else mixture.hybrid(V, each, 0.4) for each in schedules.values()
    ]
    objectives = [score_entropy(leave_one_out(process), timed=True) for process in processes]
    if kind == "uniform":
        objectives.append(duo(V))
    some = TOY.tokens[[0, 1, 7]]
    values = [bounds(objective, network, some, *tanh_sinh(100)) for objective in objectives]
    np.testing.assert_allclose(values, np.broadcast_to(values[0], (len(values), 3)), rtol=2e-6)


def test_clipped_schedule_covers_only_its_range():
    """The linear schedule clipped to noise in [0.1, 0.9] gives the integral over that range."""
    process = mixture.absorbing(V, LINEAR)
    network = table(4, V + 1, 2, V)
    some = TOY.tokens[[0, 5]]
    times, weights = tanh_sinh(40)
    inside = bounds(sedd(process, "denoiser"), network, some, 0.1 + 0.8 * times, 0.8 * weights)
    part = sedd(mixture.absorbing(V, clipped(LINEAR, 0.1, 0.9)), "denoiser")
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
