"""D3PM's bound against its definition by paths, its limit in T, and the distribution it is optimal at."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.exact import (
    any_order_bound,
    best_network,
    conditionals,
    entropy,
    masked_nats,
    random_toy_distribution,
    table_network,
)
from mdlm_jax.exact.expectation import bound_of
from mdlm_jax.exact.toy import ToyDistribution
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.masked import masked
from mdlm_jax.objectives.parameterizations import full_posterior
from mdlm_jax.processes import posterior
from mdlm_jax.processes.matrix import discretised_gaussian
from mdlm_jax.processes.mixture import absorbing, hybrid, uniform
from mdlm_jax.schedules import cosine, linear

V, L = 2, 2
PROCESSES = {
    "absorbing": lambda: absorbing(V, linear()),
    "uniform": lambda: uniform(V, cosine()),
    "hybrid": lambda: hybrid(V, linear(), 0.4),
    "gaussian_matrix": lambda: discretised_gaussian(V, 3),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def steps(num_steps):
    """The times of a chain and their weights in its mean."""
    return np.arange(1, num_steps + 1) / num_steps, np.full(num_steps, 1 / num_steps)


def arbitrary_network(states, num_steps):
    """Logits by every z and step, whatever they are."""
    table = jnp.asarray(np.random.default_rng(5).normal(size=(num_steps + 1, *(states,) * L, L, V)))
    return table, lambda view: table[(jnp.round(view.t[0] * num_steps).astype(int), *view.tokens)]


def backward_steps(process, table, num_steps):
    """p(x_{t-1} = row of all S^L | x_t = all S^L) for t = 1 .. T, [T, from, to], by the definition."""
    every = np.array(list(itertools.product(range(process.states), repeat=L)))
    distributions = []
    for step in range(1, num_steps + 1):
        probs = jax.nn.softmax(table[(step, *every.T)], axis=-1)
        s, t = jnp.full((1, 1), (step - 1) / num_steps), jnp.full((1, 1), step / num_steps)
        each = np.asarray(posterior(process, jnp.asarray(every), probs, s, t))  # [from, L, S]
        distributions.append(np.prod([each[:, i][:, every[:, i]] for i in range(L)], axis=0))
    return every, np.nan_to_num(np.stack(distributions))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", PROCESSES)
def test_bound_equals_the_sum_over_paths(name):
    """L_vb = E_q[log q(x_1 .. x_T | x_0) - log p(x_0 .. x_T)] over all paths, for an arbitrary network."""
    num_steps = 3
    process = PROCESSES[name]()
    table, network = arbitrary_network(process.states, num_steps)
    every, ours = backward_steps(process, table, num_steps)
    start = np.prod([np.asarray(process.prior)[every[:, i]] for i in range(L)], axis=0)
    z = jnp.arange(process.states)
    forward = [
        np.asarray(process.backward(z, jnp.full(len(z), i / num_steps), jnp.full(len(z), (i + 1) / num_steps))).T
        for i in range(num_steps)
    ]
    together = [np.prod([step[every[:, i]][:, every[:, i]] for i in range(L)], axis=0) for step in forward]
    x = np.array([1, 0])
    first = int(np.flatnonzero((every == x).all(axis=1))[0])
    total = 0.0
    for path in itertools.product(range(len(every)), repeat=num_steps):
        positions = (first, *path)
        q = np.prod([together[i][positions[i], positions[i + 1]] for i in range(num_steps)])
        if q > 0:
            p = start[positions[-1]] * np.prod([ours[i][positions[i + 1], positions[i]] for i in range(num_steps)])
            total += q * (np.log(q) - np.log(p))
    found = bound_of(d3pm(process, num_steps, 0.0), network, x, *steps(num_steps))
    np.testing.assert_allclose(found, total, rtol=1e-12)


@pytest.mark.few(3)
@pytest.mark.parametrize("num_steps", [2, 8])
@pytest.mark.parametrize("name", ["absorbing", "uniform", "hybrid"])
def test_bound_is_above_the_model_nats(name, num_steps):
    """The model's probabilities sum to 1, and the bound is at least -log p(x)."""
    process = PROCESSES[name]()
    table, network = arbitrary_network(process.states, num_steps)
    every, ours = backward_steps(process, table, num_steps)
    probs = np.prod([np.asarray(process.prior)[every[:, i]] for i in range(L)], axis=0)
    for step in reversed(ours):
        probs = probs @ step
    real = (every < V).all(axis=1)
    np.testing.assert_allclose(probs[real].sum(), 1, atol=1e-12)
    for x, probability in zip(every[real], probs[real], strict=True):
        found = bound_of(d3pm(process, num_steps, 0.0), network, x, *steps(num_steps))
        assert found >= -np.log(probability) - 1e-12


@pytest.mark.parametrize("schedule", [linear, cosine])
def test_absorbing_is_weighted_cross_entropy(schedule):
    """KL_t = (alpha_s - alpha_t) / (1 - alpha_t) times the sum of -log p_x over the masked positions."""
    num_steps = 5
    x = np.array([1, 0])
    table, network = arbitrary_network(V + 1, num_steps)
    objective = d3pm(absorbing(V, schedule()), num_steps, 0.0)
    total = 0.0
    for step in range(1, num_steps + 1):
        s, t = (float(schedule()(jnp.float64(i / num_steps))) for i in (step - 1, step))
        for hidden in itertools.product([False, True], repeat=L):
            z = np.where(hidden, V, x)
            cost = -np.asarray(jax.nn.log_softmax(table[(step, *z)]))[np.arange(L), x]
            total += np.prod(np.where(hidden, t, 1 - t)) * (t - s) / t * cost[np.array(hidden)].sum()
    np.testing.assert_allclose(bound_of(objective, network, x, *steps(num_steps)), total, rtol=1e-12)


def test_masked_steps_weigh_like_d3pm():
    """At every u a masked token weighs T (alpha_s - alpha_t) / (1 - alpha_t) of the same step."""
    num_steps, key = 5, jax.random.key(0)
    example = Example(jnp.zeros(50, int), jnp.ones(50, int), jnp.zeros(50, bool))
    for u in (0.01, 0.5, 0.99):
        view = masked(V, cosine(), num_steps=num_steps).view((), key, example, jnp.float64(u))
        step = np.floor(u * num_steps) + 1
        noised = np.sin(np.pi / 2 * np.array([step - 1, step]) / num_steps)
        expected = num_steps * (noised[1] - noised[0]) / noised[1]
        np.testing.assert_allclose(view.weight[view.weight > 0], expected, rtol=1e-6)


def limit_terms():
    """An arbitrary time-independent network of hidden tokens: its table, and D3PM's bound of T steps."""
    logits = np.random.default_rng(6).normal(size=(V + 1,) * L + (L, V))
    x = np.array([0, 1])
    table = jnp.asarray(logits)

    def bound(num_steps):
        return bound_of(
            d3pm(absorbing(V, linear()), num_steps, 0.0), lambda view: table[tuple(view.tokens)], x, *steps(num_steps)
        )

    return table_network(logits), x, bound


def test_bound_converges_as_one_over_steps():
    """The gap to the limit halves as T doubles, and 2 L_2T - L_T (Richardson) is the limit.

    For the linear schedule T (L_T - L_inf) -> (f(1) - f(0)) / 2, f(t) = E_t[sum of CE] / t. For one x it may have
    either sign.
    """
    network, x, bound = limit_terms()
    limit = any_order_bound(network, V, x)
    gap = {num_steps: bound(num_steps) - limit for num_steps in (64, 128, 256)}
    assert abs(np.log2(gap[64] / gap[128]) - 1) < 0.02 and abs(np.log2(gap[128] / gap[256]) - 1) < 0.02
    assert abs(2 * (gap[256] + limit) - (gap[128] + limit) - limit) < 2e-5
    costs = masked_nats(network, V, x)
    at_end, at_start = costs[-1].sum(), sum(costs[1 << i, i] for i in range(L))
    np.testing.assert_allclose(256 * gap[256], (at_end - at_start) / 2, rtol=0.02)


def test_more_steps_lower_the_optimal_bound():
    """Averaged over x, T = 1 costs the sum of H(x_i), more steps cost less, and the limit is H(x)."""
    toy = random_toy_distribution(3, V, L)
    probability = toy.probability.ravel()
    table = jnp.log(jnp.asarray(conditionals(toy)))

    def mean(num_steps):
        objective = d3pm(absorbing(V, linear()), num_steps, 0.0)
        costs = [bound_of(objective, lambda view: table[tuple(view.tokens)], x, *steps(num_steps)) for x in toy.tokens]
        return probability @ np.array(costs)

    found = [mean(num_steps) for num_steps in (1, 2, 4, 16, 64)]
    marginals = sum(entropy(ToyDistribution(toy.probability.sum(axis))) for axis in range(L))
    np.testing.assert_allclose(found[0], marginals, atol=1e-12)
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(2 * found[4] - mean(32), entropy(toy), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uniform", pytest.param("hybrid", marks=pytest.mark.slow)])
def test_optimum_is_the_leave_one_out_distribution(name):
    """The bound is nearly tight with p(x_0 | all OTHER positions) and far off with p(x_0 | all positions)."""
    toy, num_steps = random_toy_distribution(0, 3, L), 64
    process = {"uniform": lambda: uniform(3, linear()), "hybrid": lambda: hybrid(3, linear(), 0.4)}[name]()
    objective = d3pm(process, num_steps, 0.0)
    trap = objective._replace(parameterization=lambda objective_params: full_posterior(process))
    right, wrong = (
        toy.probability.ravel()
        @ np.array([bound_of(of, best_network(of, toy), x, *steps(num_steps)) for x in toy.tokens])
        for of in (objective, trap)
    )
    assert 0 < right - entropy(toy) < 0.03
    assert wrong - entropy(toy) > 0.4, (right, wrong, entropy(toy))


@pytest.mark.slow
def test_more_steps_lower_the_gaussian_bound():
    toy = random_toy_distribution(1, 3, L)
    costs = []
    for num_steps in (4, 16):
        of = d3pm(discretised_gaussian(3, num_steps), num_steps, 0.0)
        each = [bound_of(of, best_network(of, toy), x, *steps(num_steps)) for x in toy.tokens]
        costs.append(toy.probability.ravel() @ np.array(each))
    assert entropy(toy) < costs[1] < costs[0]


def test_auxiliary_loss_is_weighted_cross_entropy():
    """The auxiliary loss adds lambda times the mean cross-entropy, and evaluation leaves it out."""
    num_steps, weight = 4, 0.3
    process = PROCESSES["hybrid"]()
    table, network = arbitrary_network(process.states, num_steps)
    x = np.array([1, 0])
    both, bound = d3pm(process, num_steps, weight), d3pm(process, num_steps, 0.0)
    assert (both.bound, bound.bound, both.evaluate.bound) == ("none", "upper", "upper")
    every = np.array(list(itertools.product(range(process.states), repeat=L)))
    mean = 0.0
    for step in range(1, num_steps + 1):
        probs = np.asarray(process.forward(jax.nn.one_hot(jnp.asarray(x), V), jnp.full(L, step / num_steps)))
        cost = -np.asarray(jax.nn.log_softmax(table[(step, *every.T)]))[:, np.arange(L), x].sum(axis=1)
        mean += probs[np.arange(L), every].prod(axis=1) @ cost / num_steps
    found = bound_of(both, network, x, *steps(num_steps)) - bound_of(bound, network, x, *steps(num_steps))
    np.testing.assert_allclose(found, weight * mean, rtol=1e-11)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_stratified_times_draw_steps_equally(num_steps):
    """The u of a batch draws each of the steps 1 to T equally often. A view's time is the end of its step."""
    example = Example(jnp.zeros(L, jnp.int32), jnp.ones(L, jnp.int32), jnp.zeros(L, bool))
    view = d3pm(absorbing(V, linear()), num_steps, 0.0).view
    grid = (jnp.arange(3 * num_steps) + 0.5) / (3 * num_steps)
    times = jax.vmap(lambda u: view((), jax.random.key(0), example, u).t)(grid)
    np.testing.assert_allclose(np.ravel(times), np.repeat(np.arange(1, num_steps + 1) / num_steps, 3))
