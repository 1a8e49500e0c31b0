"""GenMD4: its bound, its limits and the gradient of its schedule. Enumeration in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mdlm_jax.data import Example
from mdlm_jax.exact import conditionals, entropy, random_toy_distribution
from mdlm_jax.exact.bounds import gauss_legendre, tanh_sinh
from mdlm_jax.exact.evidence import best_network
from mdlm_jax.exact.expectation import bound_of, nats_at
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.processes.state_dependent import powers
from mdlm_jax.training.loss import look, nats
from tests.exact.enumeration import bounds, table

V = 3
POWER = (0.6, 1.0, 2.2)


@functools.cache
def toy():
    return random_toy_distribution(0, V, length=2)


@functools.cache
def objective():
    return genmd4(V)


def phi_of(power):
    """softplus(objective_params) = power."""
    return {"power": jnp.log(jnp.expm1(jnp.asarray(power, float)))}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_bound_is_the_limit_of_many_steps():
    """The excess of a chain of T steps halves as T doubles.

    The chain reads the network's distribution as p(x_0 | all positions). All powers are above 1: the first steps add
    log(T) / T at 1, and T^-w below it.
    """
    power = np.array([2.0, 2.5, 3.0])
    network = table(1, V + 1, 2, V)
    x = np.array([0, 2])
    parameterization = objective().parameterization(phi_of(power))

    def left_out(view):
        return jnp.log(parameterization.probs(network(view), view.tokens, jnp.broadcast_to(view.t, (2,))))

    def chain(num_steps):
        steps = np.arange(1, num_steps + 1) / num_steps, np.full(num_steps, 1 / num_steps)
        return bound_of(d3pm(powers(V, jnp.asarray(power)), num_steps, 0.0), left_out, x, *steps)

    limit = bound_of(objective(), network, x, *tanh_sinh(60), phi_of(power))
    excess = np.array([chain(num_steps) for num_steps in (64, 128, 256)]) - limit
    np.testing.assert_allclose(np.log2(excess[:-1] / excess[1:]), 1, atol=0.1)
    assert abs(2 * excess[2] - excess[1]) < 2e-4


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_equal_powers_give_masked_diffusion(power):
    """A masked token weighs -alpha' / (1 - alpha) = w / t."""
    t, z = 0.3, jnp.array([V, V, 1])
    logits = np.random.default_rng(0).normal(size=(3, V))
    example = Example(jnp.array([0, 2, 1]), jnp.ones(3, int), jnp.zeros(3, bool))
    view = jax.tree.map(lambda field: field[0], objective().view(phi_of([power] * V), jax.random.key(0), example, 0.5))
    view = view._replace(tokens=z, t=jnp.array([t]))
    value = objective().token_loss(phi_of([power] * V), jnp.asarray(logits), view)
    expected = power / t * -log_softmax(logits, axis=1)[np.arange(3), [0, 2, 1]] * [1, 1, 0]
    np.testing.assert_allclose(value, expected, rtol=1e-7, atol=1e-12)


def test_optimal_network_depends_on_the_time():
    """With p(x_i | visible tokens), the optimum of masked diffusion, the mean is above the entropy."""
    log_distribution = np.log(conditionals(toy()))
    objective_params = phi_of(POWER)
    blind = bounds(
        objective(),
        lambda view: jnp.asarray(log_distribution)[tuple(view.tokens)],
        toy().tokens,
        *tanh_sinh(60),
        objective_params,
    )
    best = bounds(
        objective(), best_network(objective(), toy(), objective_params), toy().tokens, *tanh_sinh(60), objective_params
    )
    probability = toy().probability.ravel()
    gap = probability @ blind - entropy(toy())
    print(f"not knowing t costs {gap:.4f} of {entropy(toy()):.4f} nats")
    assert probability @ best == pytest.approx(entropy(toy()), abs=1e-10)
    assert gap > 0.05


def enumerated_draws(objective_params, x, t):
    """Every pair of views at t, stacked [pairs, 2, ..], and the probability of each."""
    example = Example(x, jnp.ones_like(x), jnp.zeros(x.shape, bool))
    pair = objective().view(objective_params, jax.random.key(0), example, t)
    assert pair.t.shape == (2, 1) and (pair.t == t).all()
    hidden = np.array(list(itertools.product([False, True], repeat=len(x))))
    each = jnp.where(hidden, V, x)
    lost = t ** jax.nn.softplus(objective_params["power"])[x]
    chance = jnp.where(hidden, lost, 1 - lost).prod(axis=1)
    first, second = np.indices((len(each), len(each))).reshape(2, -1)
    tokens = jnp.stack([each[first], each[second]], axis=1)
    pairs = jax.vmap(lambda tokens: pair._replace(tokens=tokens))(tokens)
    return pairs, chance[first] * chance[second]


def test_surrogate_gradient_is_unbiased():
    """The training loss's gradient by the powers, averaged over all pairs of draws, is that of the exact mean.

    Without the surrogate's score term it is biased.
    """
    x, t = jnp.array([0, 2]), jnp.float64(0.4)
    network, objective_params = table(2, V + 1, 2, V), phi_of(POWER)

    model = transformer(Architecture(V, 1, 4, 1, 1, 4), Execution())._replace(
        hidden=lambda params, view, mask, dropout_keys: (jax.vmap(network)(view), None),
        head=lambda params, hidden: hidden,
    )

    def training_loss(objective_params, pair, with_surrogate):
        total, each = nats(model, objective(), {"ends": ()}, objective_params, pair, 2)
        draw = objective().surrogate(objective_params, each, pair) if with_surrogate else 0.0
        return total / objective().views + draw

    pairs, chance = enumerated_draws(objective_params, x, t)

    def mean_gradient(with_surrogate):
        slope = jax.jit(jax.vmap(jax.grad(functools.partial(training_loss, with_surrogate=with_surrogate)), (None, 0)))
        return chance @ slope(objective_params, pairs)["power"]

    exact = jax.jit(jax.grad(lambda objective_params: nats_at(objective(), network, x, t, objective_params)))(
        objective_params
    )["power"]
    np.testing.assert_allclose(mean_gradient(True), exact, atol=1e-7)
    assert np.abs(mean_gradient(False) - exact).max() > 0.01


@pytest.mark.slow
def test_paired_views_share_only_the_time():
    example = Example(jnp.zeros((4, 64), int), jnp.ones((4, 64), int), jnp.zeros((4, 64), bool))
    views = look(objective(), phi_of(POWER), jax.random.split(jax.random.key(0), 4), example, jnp.linspace(0.3, 0.8, 4))
    pairs = views.tokens.reshape(4, 2, 64)
    np.testing.assert_array_equal(views.t.reshape(4, 2)[:, 0], views.t.reshape(4, 2)[:, 1])
    assert (pairs[:, 0] != pairs[:, 1]).any(axis=1).all()


@pytest.mark.parametrize("power", [2.0, 3.0])
def test_mask_rate_is_accurate_in_float32(power):
    """The rate is t^w. At t = 1e-3, 1 - alpha has lost 1% for w = 2 and everything for w = 3."""
    process = powers(1, jnp.full(1, power, jnp.float32))
    share = process.forward(jnp.ones(1, jnp.float32), jnp.float32(1e-3))[-1]
    assert share.dtype == jnp.float32
    assert float(share) == pytest.approx(1e-3**power, rel=1e-5)


def test_learned_powers_start_equal():
    """While the powers are equal, the bound does not depend on their value."""
    power = jax.nn.softplus(objective().init(jax.random.key(0))["power"])
    np.testing.assert_allclose(power, 1, rtol=1e-6)
    # of a bound that does not depend on the powers while they are equal, only on how they differ
    times = gauss_legendre(20)
    x, network = np.array([1, 0]), table(3, V + 1, 2, V)
    values = [bound_of(objective(), network, x, *times, phi_of([power] * V)) for power in (1.0, 2.0)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
