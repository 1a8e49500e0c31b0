"""What masked diffusion does with its times: the price of epsilon, the variance, and unbiased draws of t."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.exact import (
    any_order_bound,
    conditionals,
    gauss_legendre,
    masked_count_distribution,
    masked_nats,
    masked_oracle,
    random_toy_distribution,
    table_network,
)
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives.any_order import any_order
from mdlm_jax.objectives.masked import MOST_STEPS, masked, masked_plain
from mdlm_jax.schedules import SCHEDULES, cosine, linear, polynomial, step_rate, with_ends

V, L = 3, 4


@functools.cache
def toy():
    return random_toy_distribution(3, V, L)


@functools.cache
def sequence():
    return np.array([1, 0, 2, 1])


def example():
    return Example(jnp.asarray(sequence()), jnp.ones(L, jnp.int32), jnp.zeros(L, bool))


@functools.cache
def nats_of_sets():
    return masked_nats(table_network(np.log(conditionals(toy()))), V, sequence())


@functools.cache
def bound():
    return any_order_bound(table_network(np.log(conditionals(toy()))), V, sequence())


@functools.cache
def sets():
    return nats_of_sets().sum(axis=1)


@functools.cache
def sizes():
    return np.array([bin(number).count("1") for number in range(2**L)])


@functools.cache
def one_hidden():
    return sets()[sizes() == 1].sum()


@functools.cache
def all_hidden():
    return sets()[-1]


def expected_by_quadrature(objective, schedule):
    """The objective's mean nats for X: its own time and weight at each u, and the distribution of the hidden set
    then."""
    u, weights = gauss_legendre(12)
    keys = jax.random.split(jax.random.key(0), 2000)  # so many that some token is hidden at every u
    views = jax.jit(jax.vmap(lambda u: jax.vmap(lambda key: objective.view((), key, example(), u))(keys)))(
        jnp.asarray(u)
    )
    weight, time = np.float64(views.weight).max(axis=(1, 2, 3)), np.float64(views.t)[:, 0, 0, 0]
    assert (weight > 0).all()
    return float((weights * weight) @ masked_count_distribution(np.float64(schedule(time)), L) @ sets())


def sampled_nats(objective, u):
    """The objective's nats for X at each of these u, with a key of its own."""
    oracle = masked_oracle(toy())

    def one(key, u):
        view = jax.tree.map(lambda field: field[0], objective.view((), key, example(), u))
        return objective.token_loss((), oracle(view), view).sum()

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), len(u)), u), np.float64)


def times_from(low, nodes=60):
    """Nodes and weights over log t in [log low, 0], for integrands that grow like 1 / t."""
    log_times, weights = gauss_legendre(nodes, np.log(low), 0.0)
    return np.exp(log_times), weights * np.exp(log_times)


def test_no_epsilon_gives_the_bound():
    assert expected_by_quadrature(masked(V, linear()), linear()) == pytest.approx(bound(), rel=1e-6)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_bias_of_the_smdm_convention(epsilon):
    """p in [eps, 1], weight 1 / p: to first order the bias is eps (bound - nats of one masked token at a time)."""
    value = expected_by_quadrature(masked(V, linear(), time_epsilon=epsilon), linear())
    first_order = epsilon * (bound() - one_hidden())
    assert abs(value - bound() - first_order) < 20 * epsilon**2
    share, weight = gauss_legendre(L, epsilon, 1.0)
    exact = weight / share @ masked_count_distribution(share, L) @ sets() / (1 - epsilon)
    assert value == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_bias_of_the_mdlm_convention(epsilon):
    """t in [eps, 1], mask rate (1 - eps) t, weight 1 / t: mask rates above 1 - eps are missing too."""
    value = expected_by_quadrature(masked(V, linear(epsilon), time_epsilon=epsilon), linear(epsilon))
    first_order = epsilon * (bound() - one_hidden() - all_hidden())
    assert abs(value - bound() - first_order) < 20 * epsilon**2
    share, weight = gauss_legendre(L, epsilon * (1 - epsilon), 1 - epsilon)
    exact = weight / share @ masked_count_distribution(share, L) @ sets() / (1 - epsilon)
    assert value == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_bias_of_the_md4_convention(epsilon):
    """Mask rates from eps to 1 - eps, and log V for each token masked before them or visible after."""
    schedule = with_ends(linear(), epsilon)
    value = expected_by_quadrature(masked(V, schedule), schedule)
    share, weight = gauss_legendre(L, epsilon, 1 - epsilon)
    assert value == pytest.approx(weight / share @ masked_count_distribution(share, L) @ sets(), rel=1e-6)
    constant = masked(V, schedule).view((), jax.random.key(0), example(), 0.5).constant
    np.testing.assert_allclose(constant, 2 * epsilon * L * np.log(V), rtol=1e-5)


def test_complementary_view_has_the_same_mean():
    """The second view masks the tokens that the first shows, and its mean alone is the bound."""
    objective = masked(V, linear(), complementary=True)
    u, weights = gauss_legendre(12)
    keys = jax.random.split(jax.random.key(0), 2000)
    views = jax.jit(jax.vmap(lambda u: jax.vmap(lambda key: objective.view((), key, example(), u))(keys)))(
        jnp.asarray(u)
    )
    hidden = np.asarray(views.tokens == V)
    assert (hidden[:, :, 0] != hidden[:, :, 1]).all() and ((views.weight > 0) == hidden).all()
    weight = np.float64(views.weight).max(axis=(1, 3))
    for number, share in enumerate((u, 1 - u)):
        value = weights * weight[:, number] @ masked_count_distribution(share, L) @ sets()
        assert value == pytest.approx(bound(), rel=1e-5)


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_mask_rate_follows_the_time(epsilon):
    objective = masked(V, linear(epsilon), time_epsilon=epsilon)
    keys, u = jax.random.split(jax.random.key(2), 40_000), jnp.array([0.0, 0.03, 0.5, 0.999])
    views = jax.jit(jax.vmap(jax.vmap(objective.view, (None, 0, None, None)), (None, None, None, 0)))(
        (), keys, example(), u
    )
    noised = (1 - epsilon) * (epsilon + (1 - epsilon) * np.float64(u))[:, None]
    share = np.asarray(views.tokens == V)[:, :, 0].mean(axis=1)
    assert (np.abs(share - noised) < 5 * np.sqrt(noised * (1 - noised) / 40_000) + 1e-5).all()


def second_moment_of_counts():
    """E[(L / k nats of k hidden tokens)^2], by enumeration."""
    return np.mean([((L / k * sets()[k == sizes()]) ** 2).mean() for k in range(1, L + 1)])


def test_fixed_counts_have_finite_variance():
    """The k-form's second moment is an average over sets, and the drawn one agrees."""
    second = second_moment_of_counts()
    n = 200_000
    each = sampled_nats(any_order(V), (jnp.arange(n) + 0.5) / n)
    assert abs(each.mean() - bound()) < 3 * each.std() / n**0.5
    squares = each**2
    assert abs(squares.mean() - second) < 5 * squares.std() / n**0.5


def test_independent_masks_have_infinite_variance():
    """With weight 1 / t the second moment grows by ln 10 x sum_i nats_i^2 with each decade of the smallest t."""

    def second_moment(low):
        times, weights = times_from(low)
        return weights / times**2 @ masked_count_distribution(times, L) @ sets() ** 2 / (1 - low)

    assert second_moment_of_counts() < second_moment(1e-3) / 2
    growth = np.log(10) * (sets()[sizes() == 1] ** 2).sum()
    for low in (1e-3, 1e-4, 1e-5):
        assert second_moment(low / 10) - second_moment(low) == pytest.approx(growth, rel=0.05)
    n = 200_000
    u = (jnp.arange(n) + 0.5) / n
    for low in (1e-1, 1e-2):
        squares = sampled_nats(masked(V, linear(), time_epsilon=low), u) ** 2
        assert abs(squares.mean() - second_moment(low)) < 5 * squares.std() / n**0.5


def test_stratified_times_are_unbiased():
    """Averaged over the u of a batch and over steps, the nats are the bound, with less noise than independent times."""
    batch_size, steps = 8, 4000
    index = jnp.arange(batch_size)
    seed = jax.random.key_data(jax.random.key(4))
    u = jax.jit(jax.vmap(lambda step: noise_of(seed, step, index, batch_size)[1]))(jnp.arange(steps))
    independent = np.random.default_rng(0).uniform(size=u.shape)

    def batch_means(u):
        share = np.maximum(np.asarray(u, np.float64), 1e-6).ravel()
        return (masked_count_distribution(share, L) @ sets() / share).reshape(u.shape).mean(axis=1)

    spread, scattered = batch_means(u), batch_means(independent)
    assert abs(spread.mean() - bound()) < 5 * spread.std() / steps**0.5
    assert abs(scattered.mean() - bound()) < 5 * scattered.std() / steps**0.5
    assert spread.std() < scattered.std() / 2


def test_independent_times_ignore_the_stratified_ones():
    objective = masked(V, linear(), independent_times=True)
    keys = jax.random.split(jax.random.key(5), 5000)
    times = np.asarray(jax.jit(jax.vmap(lambda key: objective.view((), key, example(), 0.0).t[0, 0]))(keys))
    assert abs(times.mean() - 0.5) < 5 * (1 / 12 / 5000) ** 0.5 and abs(times.var() - 1 / 12) < 0.005


@pytest.mark.parametrize("arguments", [{"complementary": True}, {"time_epsilon": 1e-3}])
def test_discrete_steps_refuse_continuous_time_options(arguments):
    with pytest.raises(UserError, match="num_steps=8; accepted: 0 with time_epsilon"):
        masked(V, linear(), num_steps=8, **arguments)


def test_decreasing_schedule_is_refused():
    with pytest.raises(UserError, match="schedule"):
        masked(V, lambda t: t * (1 - t))


def test_underflowing_mask_rate_has_finite_weight():
    """t^10 at t = 5e-5 is indistinguishable from 0 in float32."""
    for objective in (masked(V, polynomial(10.0), complementary=True), masked(V, polynomial(10.0))):
        view = objective.view((), jax.random.key(0), example(), 5e-5)
        assert jnp.isfinite(view.weight).all()


@pytest.mark.parametrize("schedule", [linear, partial(polynomial, 2.0)])
def test_step_weights_match_md4(schedule):
    """MD4's -T expm1(g_t - g_s) alpha_s, g the log odds of survival, is T (alpha_s - alpha_t) / (1 - alpha_t)."""
    num_steps = 10
    schedule = schedule()
    objective = masked(V, schedule, num_steps=num_steps)
    for step in range(2, num_steps):  # at the ends the odds are 0 or infinite
        views = [
            objective.view((), key, example(), (step - 0.5) / num_steps) for key in jax.random.split(jax.random.key(0))
        ]
        weight = max(float(view.weight.max()) for view in views)
        alpha_t, alpha_s = (1 - np.float64(schedule(number / num_steps)) for number in (step, step - 1))
        g_t, g_s = (np.log(alpha / (1 - alpha)) for alpha in (alpha_t, alpha_s))
        assert weight in (0, pytest.approx(-num_steps * np.expm1(g_t - g_s) * alpha_s, rel=1e-5))
    assert weight > 0


@pytest.mark.parametrize("name", ["linear", "cosine", "square_root", "polynomial", "geometric", "with ends"])
@pytest.mark.parametrize("num_steps", [10, 10_000, 1_000_000, MOST_STEPS])
def test_step_weights_are_accurate_in_float32(name, num_steps):
    """(p_t - p_s) / (p_t (t - s)) equals the plain difference in float64 at random, first and last steps."""
    schedule = {"polynomial": lambda: polynomial(3.0), "with ends": lambda: with_ends(cosine(), 1e-4)}.get(
        name, SCHEDULES.get(name)
    )()
    step = np.append(np.random.default_rng(0).integers(1, num_steps, 500), [1, 2, num_steps])
    single = step_rate(schedule, jnp.asarray(step / num_steps, jnp.float32), 1 / num_steps)
    with jax.enable_x64(True):
        now, before = (np.asarray(schedule(jnp.asarray(k / num_steps))) for k in (step, step - 1))
    exact = num_steps * (now - before) / now
    # near t = 1 the slope of a cosine is the float32 rounding of a number close to 0
    np.testing.assert_allclose(single, exact, rtol=1e-5, atol=1e-6)
    assert (np.asarray(single) >= 0).all()


def test_steps_finer_than_float32_are_refused():
    with pytest.raises(UserError, match="num_steps=10000000; accepted: 0 .* to 8388608"):
        masked(V, linear(), num_steps=10**7)


def test_complementary_plain_views_cover_every_token():
    """With uniform logits two views cost log V in the mean, and one view costs log V times the mask rate."""
    both, one = masked_plain(V, linear(), complementary=True), masked_plain(V, linear())

    def nats(objective, key, u):
        views = objective.view((), key, example(), u)
        return objective.token_loss((), jnp.zeros((*views.targets.shape, V)), views).sum(axis=-1).mean() / L

    keys, u = jax.random.split(jax.random.key(0), 4000), (jnp.arange(4000) + 0.5) / 4000
    each = jax.vmap(lambda key, u: nats(both, key, u))(keys, u)
    np.testing.assert_allclose(each, np.log(V), rtol=1e-6)
    alone = jax.vmap(lambda key, u: nats(one, key, u))(keys, u).mean()
    assert alone == pytest.approx(np.log(V) / 2, rel=0.02)
