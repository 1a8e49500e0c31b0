"""Densities of noise levels: drawn as stated, and with their weight the loss has the same mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import truncnorm

import mdlm_jax as mj
from mdlm_jax.build.objective import objective_label, objective_of
from mdlm_jax.configs.objective_keys import WITHOUT_LEVELS
from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.exact import random_toy_distribution
from mdlm_jax.exact.oracles import expected_nats, masked_oracle
from mdlm_jax.exact.toy import entropy
from mdlm_jax.objectives import OBJECTIVES, any_order, masked, masked_plain
from mdlm_jax.objectives.densities import parse_density, with_density
from mdlm_jax.schedules import linear

V, L = 3, 4


def bell():
    return parse_density("bell:mean=0.6,width=0.2,floor=0.1")


def row():
    return Example(jnp.arange(L) % V, jnp.ones(L, jnp.int32), jnp.zeros(L, bool))


def levels_and_weights(density, weighted=True, count=2**20):
    """The time and the weight of the first position for evenly spread u: a view of weight 1 at its own time."""
    plain = masked_plain(V, linear())
    at_u = plain._replace(view=lambda p, k, x, u: plain.view(p, k, x, u)._replace(t=u[None], weight=jnp.ones((1, L))))
    changed = with_density(at_u, density, weighted)

    def drawn(u):
        view = changed.view((), jax.random.key(0), row(), u)
        return view.t[0], view.weight[0, 0]

    return map(np.asarray, jax.jit(jax.vmap(drawn))((jnp.arange(count) + 0.5) / count))


def test_levels_follow_the_bell():
    level, _ = levels_and_weights(bell())
    normal = truncnorm((0 - 0.6) / 0.2, (1 - 0.6) / 0.2, 0.6, 0.2)
    for q in (0.05, 0.25, 0.5, 0.6, 0.9):
        np.testing.assert_allclose((level < q).mean(), 0.9 * normal.cdf(q) + 0.1 * q, atol=2e-3)


def test_weight_restores_integrals():
    level, weight = levels_and_weights(bell())
    level = level.astype(np.float64)
    for power in range(4):
        np.testing.assert_allclose((weight * level**power).mean(), 1 / (power + 1), rtol=2e-5)


def test_clipped_levels_are_uniform_within():
    level, weight = levels_and_weights(parse_density("clipped:low=0.3,high=0.8"), weighted=False)
    np.testing.assert_allclose([level.min(), level.mean(), level.max()], [0.3, 0.55, 0.8], atol=1e-5)
    assert (weight == 1).all()


@pytest.mark.few(4)
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in WITHOUT_LEVELS])
def test_loss_is_that_of_the_level_times_the_slope(name):
    """Loss and constant are proportional to the weight, for every objective; then the mean is a change of variable."""
    config = mj.load_config("base", [f"--config.objective.name={name}"])
    objective = objective_of(config, V)
    changed = with_density(objective, bell())
    params = objective.init(jax.random.key(1))
    u = jnp.array([0.02, 0.3, 0.7, 0.97])
    logits = jax.random.normal(jax.random.key(2), (1, L, V))

    def loss(one, u):
        view = one.view(params, jax.random.key(3), row(), u)
        return one.token_loss(params, jnp.broadcast_to(logits, (*view.targets.shape, V)), view).sum() + view.constant

    level = jnp.interp(u, jnp.cumsum(jnp.r_[0, bell().mass]), bell().edges)
    density = jnp.array([bell().mass[int(at * 256)] * 256 for at in level])
    expected = [loss(objective, at) / here for at, here in zip(level, density, strict=True)]
    np.testing.assert_allclose([loss(changed, at) for at in u], expected, rtol=2e-3)


def test_mean_nats_on_a_toy_distribution():
    """The best network's mean is the entropy under any weighted density."""
    toy = random_toy_distribution(0, V, L)
    mean, error = expected_nats(with_density(any_order(V), bell()), masked_oracle(toy), toy, jax.random.key(1), 4000)
    assert error < 0.003 * entropy(toy)
    assert abs(mean - entropy(toy)) < min(3 * error, 0.003 * entropy(toy))


def test_bound_and_evaluation():
    plain = masked(V, linear())
    assert with_density(plain, bell()).bound == "upper"
    assert with_density(plain, bell(), weighted=False).bound == "none"
    assert with_density(plain, parse_density("clipped:low=0.1,high=1")).bound == "none"
    assert with_density(plain, bell()).evaluate is plain.evaluate
    assert with_density(any_order(V), bell()).evaluate.bound == "upper"


def test_unweighted_is_another_mean():
    """Without the weight, levels near 0.6 count more."""
    toy = random_toy_distribution(0, V, L)
    objective = any_order(V)
    other, error = expected_nats(
        with_density(objective, bell(), False), masked_oracle(toy), toy, jax.random.key(0), 300
    )
    assert abs(other - entropy(toy)) > 10 * error


def config(*arguments):
    return mj.load_config("quickstart", ["--config.objective.name=masked", *arguments])


def test_config():
    density = "--config.objective.density=bell:mean=0.5"
    assert objective_label(config(density)) == "masked-bell"
    unweighted = config(density, "--config.objective.density_weighted=False")
    assert objective_label(unweighted) == "masked-bell-unweighted"
    assert objective_of(unweighted, V).bound == "none"
    assert objective_of(config(density), V).bound == "upper"


@pytest.mark.parametrize(
    "density, message",
    [
        ("spike", "accepted: bell, clipped, learned"),
        ("bell:mean=2", "'mean=2'; accepted: mean, width, floor"),
        ("bell:middle=0.5", "'middle=0.5'; accepted: mean, width, floor"),
        ("bell:width=0", "a width of at least"),
        ("clipped:low=0.5,high=0.5", "low < high"),
        ("bell:width=0.1,floor=0", "at some noise levels; accepted: at least 0.01 everywhere"),
    ],
)
def test_bad_densities_are_refused(density, message):
    with pytest.raises(UserError, match=message):
        objective_of(config(f"--config.objective.density={density}"), V)


def test_independent_times_are_refused():
    with pytest.raises(UserError, match="independent_times"):
        objective_of(config("--config.objective.density=bell", "--config.objective.independent_times=True"), V)
