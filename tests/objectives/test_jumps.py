"""tauLDR's bound and concrete score matching: sums over neighbours, enumerated in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.exact import random_toy_distribution
from mdlm_jax.exact.evidence import best_network
from mdlm_jax.objectives.jumps import csm, tauldr
from mdlm_jax.objectives.score_entropy import sedd
from mdlm_jax.processes import mixture
from mdlm_jax.schedules import cosine, linear
from tests.exact.enumeration import bounds, table
from tests.once import once

V, L = 3, 2


@functools.cache
def toy():
    return random_toy_distribution(0, V, L)


PROCESSES = {
    "absorbing": lambda: mixture.absorbing(V, linear()),
    "uniform": lambda: mixture.uniform(V, cosine()),
    "hybrid": lambda: mixture.hybrid(V, linear(), 0.4),
    "gidd": lambda: mixture.gidd(V, linear(), 0.2, 1.0),
}
over_processes = pytest.mark.parametrize("process", PROCESSES)
TIMES = (0.2, 0.5, 0.8)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def viewer(objective, draws=40_000):
    keys = jax.random.split(jax.random.key(0), draws)

    def views(x, t):
        example = Example(x, jnp.ones(L, int), jnp.zeros(L, bool))
        return jax.vmap(lambda key: objective.view((), key, example, t))(keys)

    return jax.jit(views)


@functools.cache
def scorer(objective, network):
    def nats(view):
        return objective.token_loss((), network(view), view).sum() + view.constant

    return jax.jit(jax.vmap(jax.vmap(nats)))


def drawn_pairs(objective, x, t):
    """Every distinct pair of views that the objective makes of x at t: views, first tokens [n, L], second tokens."""
    views = viewer(objective)(jnp.asarray(x), jnp.float64(t))
    _, index = np.unique(np.asarray(views.tokens).reshape(-1, 2 * L), axis=0, return_index=True)
    pairs = jax.tree.map(lambda field: np.asarray(field)[index], views)
    return pairs, *np.moveaxis(pairs.tokens, 1, 0)


def enumerated(objective, network, x, t, jump_distribution):
    """The objective's exact mean nats of x at t: its own views, each with its own probability."""
    process = objective.parameterization(()).process
    pairs, here, there = drawn_pairs(objective, x, t)
    forward = np.asarray(process.forward(jnp.eye(V), jnp.float64(t)))
    chance = forward[x, here].prod(axis=1) * jump_distribution(process, here, there, t)
    np.testing.assert_allclose(chance.sum(), 1, rtol=1e-12)  # none was missed
    return float(chance @ np.asarray(scorer(objective, network)(pairs).mean(axis=1)))


def by_rates(process, here, there, t):
    """P(there | here) = R_t(here, there) / the sum of all rates out; 1 where no rate leads out."""
    into = np.asarray(process.rate(jnp.arange(process.states), jnp.full(process.states, t)))  # [z, y]
    out = into.sum(axis=0)
    rate = np.where(here != there, into[there, here], 0).sum(axis=1)
    total = out[here].sum(axis=1)
    return np.where(total > 0, rate / np.where(total > 0, total, 1), 1)


def evenly(process, here, there, t):
    """Each of the L (V - 1) neighbours alike."""
    return np.full(len(here), 1 / (L * (V - 1)))


@pytest.mark.slow
@over_processes
@pytest.mark.parametrize("seed", [1, 2])
def test_tauldr_is_score_entropy_in_expectation(process, seed):
    """Holds for any network at every time and sequence."""
    process = once(PROCESSES[process])
    network = table(seed, process.states, L, V)
    for t, x in zip(TIMES, toy().tokens[[0, 5, 7]], strict=True):
        value = enumerated(tauldr(process), network, x, t, by_rates)
        expected = bounds(sedd(process, "denoiser"), network, [x], [t], [1.0])[0]
        assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_tauldr_is_least_at_the_true_rates():
    """Averaged over x, the bound minus its least value is 0 at the best network and above 0 at another."""
    process, t = once(PROCESSES["uniform"]), 0.5
    objective, scores = tauldr(process), sedd(process, "denoiser")
    best = best_network(objective, toy())
    least = toy().probability.ravel() @ bounds(scores, best, toy().tokens, [t], [1.0])

    def mean(network):
        each = [enumerated(objective, network, x, t, by_rates) for x in toy().tokens]
        return toy().probability.ravel() @ each

    assert mean(best) == pytest.approx(least, rel=1e-9)
    assert mean(table(1, V, L, V)) > least + 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uniform", "gidd"])
def test_one_pass_over_the_neighbour_is_biased(name):
    """The reverse rates out of x' are cheaper than those out of x, but have another mean."""
    process, t, x = once(PROCESSES[name]), 0.5, toy().tokens[5]
    objective, network = tauldr(process), table(1, process.states, L, V)
    parameterization = objective.parameterization(())
    pairs, here, there = drawn_pairs(objective, x, t)
    forward = np.asarray(process.forward(jnp.eye(V), jnp.float64(t)))
    chance = forward[x, here].prod(axis=1) * by_rates(process, here, there, t)

    def rates_out(view):
        level = jnp.full(L, t)
        scores = jnp.exp(parameterization.log_ratio(network(view), view.tokens, level))
        return (process.rate(view.tokens, level) * scores).sum()

    out = np.asarray(jax.jit(jax.vmap(jax.vmap(rates_out)))(pairs))
    right, cheap = chance @ out
    print(f"{name}: rates out {right:.4f}, with one pass {cheap:.4f}")
    assert abs(cheap - right) > 0.01 * right


def ratios(t):
    """(p_t of every z, p_t of each neighbour over it [z1, z2, position, y]) of uniform noise."""
    forward = np.asarray(once(PROCESSES["uniform"]).forward(jnp.eye(V), jnp.float64(t)))
    probs = forward.T @ toy().probability @ forward
    first = probs.T[None, :, :] / probs[:, :, None]
    second = probs[:, None, :] / probs[:, :, None]
    return probs, np.stack([np.broadcast_to(first, (V, V, V)), np.broadcast_to(second, (V, V, V))], axis=2)


def explicit(network, t):
    """E_{p_t} sum over neighbours of (c - c_p)^2, c = s - 1, and E_{p_t} sum of c_p^2."""
    probs, true = ratios(t)
    z = jnp.asarray(np.indices((V,) * L).reshape(L, -1).T)
    c = np.exp(np.asarray([network(view) for view in views_of(z, t)])).reshape(V, V, L, V) - 1
    other = np.arange(V) != np.indices((V,) * L).transpose(1, 2, 0)[..., None]
    return tuple((probs * (each * other).sum(axis=(2, 3))).sum() for each in ((c - true + 1) ** 2, (true - 1) ** 2))


def views_of(z, t):
    example = Example(jnp.zeros(L, int), jnp.ones(L, int), jnp.zeros(L, bool))
    view = jax.tree.map(
        lambda field: field[0], sedd(once(PROCESSES["uniform"]), "raw").view((), jax.random.key(0), example, t)
    )
    return [view._replace(tokens=row) for row in z]


def importance(t):
    forward = np.asarray(once(PROCESSES["uniform"]).forward(jnp.eye(V), jnp.float64(t)))
    return (forward[0, 1] / forward[0, 0]) ** 2


@pytest.mark.few(1)
@pytest.mark.parametrize("t", TIMES)
def test_implicit_csm_is_explicit_csm_minus_constant(t):
    """explicit - implicit = E sum c_p^2, with the jump back drawn as in training."""
    objective = csm(V, cosine(), "implicit")
    for seed in (1, 2):
        network = table(seed, V, L, V, scale=0.5)
        each = [enumerated(objective, network, x, t, evenly) for x in toy().tokens]
        value, constant = explicit(network, t)
        implicit = toy().probability.ravel() @ each / importance(t)
        assert value - implicit == pytest.approx(constant, rel=1e-12)


@pytest.mark.parametrize("t", TIMES)
def test_denoising_csm_is_explicit_csm_plus_constant(t):
    """E sum (s - q(y | x) / q(z | x))^2 - E_{p_t} sum (c - c_p)^2 is the same for any two networks."""
    objective = csm(V, cosine(), "denoising")
    left = []
    for seed in (1, 2):
        network = table(seed, V, L, V, scale=0.5)
        each = bounds(objective, network, toy().tokens, [t], [1.0])
        left.append(toy().probability.ravel() @ each / importance(t) - explicit(network, t)[0])
    assert left[0] == pytest.approx(left[1], rel=1e-12)


def test_true_ratios_minimise_both_csm_forms():
    """The explicit form is 0 there, and a small shift either way raises the implicit and the denoising form."""
    t = 0.5
    best = jax.jit(best_network(csm(V, cosine(), "implicit"), toy()))
    beside = [lambda view, shift=shift: best(view) + shift for shift in (-0.02, 0.02)]
    assert explicit(best, t)[0] == pytest.approx(0, abs=1e-20)
    for form, probs in (("implicit", evenly), ("denoising", None)):
        objective = csm(V, cosine(), form)

        def mean(network, objective=objective, probs=probs):
            if probs is None:
                each = bounds(objective, network, toy().tokens, [t], [1.0])
            else:
                each = [enumerated(objective, network, x, t, probs) for x in toy().tokens]
            return toy().probability.ravel() @ each

        assert mean(best) < min(mean(near) for near in beside)


def test_neighbour_ratios_determine_the_distribution():
    """Neighbours connect all sequences, so the ratios along a spanning tree rebuild the distribution."""
    probs, true = ratios(0.5)
    rebuilt = np.zeros((V, V))
    for z in itertools.product(range(V), repeat=L):
        rebuilt[z] = true[0, 0, 0, z[0]] * true[z[0], 0, 1, z[1]]
    np.testing.assert_allclose(rebuilt / rebuilt.sum(), probs, rtol=1e-12)
