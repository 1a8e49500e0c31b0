"""One step back, against enumeration: what each distribution is, what it leaves as it is, and that draws follow it."""

import functools
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import chisquare, poisson

from mdlm_jax.exact import random_toy_distribution
from mdlm_jax.objectives.parameterizations import full_posterior, leave_one_out, score
from mdlm_jax.processes.base import posterior
from mdlm_jax.processes.mixture import absorbing, gidd, hybrid, uniform
from mdlm_jax.processes.state_dependent import powers
from mdlm_jax.sampling.steps import (
    acceptance,
    corrector_step,
    euler_distribution,
    metropolis_step,
    reverse_rates,
    staggered,
    tau_leaping_distribution,
    tweedie_distribution,
    without_mask,
)
from mdlm_jax.schedules import cosine, linear
from tests.sampling.chains import (
    best_distributions,
    best_log_ratios,
    corrector_distribution,
    forward_rates,
    generator,
    matrix,
    noised_distribution,
    states_of,
    step_matrix,
)
from tests.sampling.toys import RARE

V, L = 3, 2
S_TIME, T_TIME = 0.3, 0.7


@functools.cache
def toy():
    return random_toy_distribution(0, V, L)


PROCESSES = {
    "absorbing": lambda: absorbing(V, cosine()),
    "uniform": lambda: uniform(V, cosine()),
    "hybrid": lambda: hybrid(V, linear(), 0.4),
    "gidd": lambda: gidd(V, linear(), 0.3),
    "powers": lambda: powers(V, jnp.array([0.5, 1.0, 2.0])),
}
ANSWERS = {"leave_one_out": leave_one_out, "full_posterior": full_posterior, "score": score}
# a network of scores has none for the mask, from which GIDD comes back
ASKED = [(p, a) for p, a in itertools.product(PROCESSES, ANSWERS) if (p, a) not in {("gidd", "score")}]
FAST = {(p, "leave_one_out") for p in PROCESSES} | {("uniform", a) for a in ANSWERS}
ASKED = [pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow) for pair in ASKED]
every_answer = pytest.mark.parametrize(("process", "parameterization"), ASKED)


def enumerated(process: str):
    """(process, joint distribution, states) in float64."""
    made, joint = PROCESSES[process](), jnp.asarray(toy().probability)
    assert joint.dtype == jnp.float64
    return made, joint, states_of(made, L)


def one_position(process, joint, sampler: str):
    """(t -> p_t, (s, t) -> matrix of a step) of rows of one token."""
    states = states_of(process, 1)
    distribution_at = jax.jit(partial(noised_distribution, process, joint, states))
    return distribution_at, jax.jit(partial(step_matrix, sampler, score(process), joint, states))


def fits(seen, probs) -> bool:
    """Whether counts may have been drawn from a distribution; never where it is 0."""
    possible = probs > 1e-9
    alone = possible.sum() == 1
    expected = seen.sum() * probs[possible] / probs[possible].sum()
    return seen[~possible].sum() == 0 and (alone or chisquare(seen[possible], expected).pvalue > RARE)


@pytest.mark.few(1)
@every_answer
def test_reverse_rates_match_the_enumerated_chain(process, parameterization):
    """R_t(y, x) p_t(y) / p_t(x), where x and y differ in one position."""
    with jax.enable_x64(True):
        made, joint, states = enumerated(process)
        probs, at_t = noised_distribution(made, joint, states, T_TIME), jnp.full(states.shape, T_TIME)
        forward = generator(jnp.broadcast_to(forward_rates(made, T_TIME)[states], (*states.shape, made.states)), states)
        log_ratio = best_log_ratios(ANSWERS[parameterization](made), joint, states, T_TIME)
        backward = generator(reverse_rates(made, states, log_ratio, at_t), states)
        seen, off_diagonal = np.asarray(probs) > 1e-12, 1 - np.eye(len(states))
        expected = np.asarray(forward).T * np.asarray(probs)[None] / np.where(seen, probs, 1)[:, None] * off_diagonal
        np.testing.assert_allclose((backward * off_diagonal)[seen], expected[seen], rtol=1e-11, atol=1e-13)


@pytest.mark.few(3)
@every_answer
def test_forward_plus_reverse_rates_leave_p_t_stationary(process, parameterization):
    """p_t (R + R') = 0, p_t(x) (R + R')(x, y) = p_t(y) (R + R')(y, x), and a long time of it forgets where it began."""
    with jax.enable_x64(True):
        made, joint, states = enumerated(process)
        log_ratio = best_log_ratios(ANSWERS[parameterization](made), joint, states, T_TIME)
        rates = reverse_rates(made, states, log_ratio, jnp.full(states.shape, T_TIME))
        both = np.asarray(generator(rates + forward_rates(made, T_TIME)[states], states))
        probs = np.asarray(noised_distribution(made, joint, states, T_TIME))
    assert np.abs(probs @ both).max() < 1e-13
    flow = probs[:, None] * both
    assert np.abs(flow - flow.T).max() < 1e-13
    start = np.zeros(len(probs))
    start[probs.argmax()] = 1.0
    assert np.abs(start @ expm(1000 * both) - probs).max() < 1e-10


@pytest.mark.parametrize(("process", "parameterization"), [pair for pair in ASKED if pair.values[0] != "powers"])
def test_tweedie_matches_each_position_exactly(process, parameterization):
    """p(x_s of position i = y | x_t) = (ratio Q^-1)_y Q_yx, both by enumeration; it sums to 1 without normalisation."""
    with jax.enable_x64(True):
        made, joint, states = enumerated(process)
        at_s, at_t = (jnp.full(states.shape, time) for time in (S_TIME, T_TIME))
        # q(x_t | x_s) p_s(x_s): [x_t, x_s]
        each = made.backward(states, at_s, at_t)
        both = matrix(each, states) * noised_distribution(made, joint, states, S_TIME)
        expected = (
            jnp.stack(
                [both @ jax.nn.one_hot(states[:, position], made.states, dtype=jnp.float64) for position in range(L)],
                axis=1,
            )
            / both.sum(axis=1)[:, None, None]
        )
        log_ratio = best_log_ratios(ANSWERS[parameterization](made), joint, states, T_TIME)
        found = tweedie_distribution(made, states, log_ratio, at_s, at_t)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        exact = posterior(made, states, best_distributions(made, joint, states, T_TIME), at_s, at_t)
        np.testing.assert_allclose(found, exact, atol=1e-12)
        ratio = jnp.exp(best_log_ratios(leave_one_out(made), joint, states, T_TIME))
        unnormalised = staggered(made, ratio, at_s, at_t) * made.backward(states, at_s, at_t)
        np.testing.assert_allclose(unnormalised.sum(axis=-1), 1, atol=1e-12)


def test_staggered_scores_match_sedd():
    """With d = sigma_t - sigma_s: uniform, e^d s + (1 - e^d) / V sum s; absorbing, e^d s and 1 + (1 - e^d) sum of the
    tokens' scores for the mask."""
    with jax.enable_x64(True):
        s, t = jnp.full(5, S_TIME), jnp.full(5, T_TIME)
        growth = (1 - cosine()(s))[:, None] / (1 - cosine()(t))[:, None]
        ratio = jnp.exp(jax.random.normal(jax.random.key(0), (5, V), jnp.float64)).at[:, 0].set(1)
        expected = growth * ratio + (1 - growth) / V * ratio.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(jax.jit(partial(staggered, uniform(V, cosine())))(ratio, s, t), expected, rtol=1e-12)
        at_mask = jnp.concatenate([ratio, jnp.ones((5, 1))], axis=1)
        expected = jnp.concatenate([growth * ratio, 1 + (1 - growth) * ratio.sum(axis=1, keepdims=True)], axis=1)
        np.testing.assert_allclose(
            jax.jit(partial(staggered, absorbing(V, cosine())))(at_mask, s, t), expected, rtol=1e-12
        )


@pytest.mark.parametrize("distribution_of", ["posterior", "tweedie"])
def test_posterior_of_masks_matches_mdlm(distribution_of):
    """A mask is v with probability (alpha_s - alpha_t) / (1 - alpha_t) p(v), a token stays what it is."""
    with jax.enable_x64(True):
        made, joint, states = enumerated("absorbing")
        clean, log_ratio = (
            best_distributions(made, joint, states, T_TIME),
            best_log_ratios(score(made), joint, states, T_TIME),
        )
        at_s, at_t = (jnp.full(states.shape, time) for time in (S_TIME, T_TIME))
        if distribution_of == "posterior":
            found = posterior(made, states, clean, at_s, at_t)
        else:
            found = tweedie_distribution(made, states, log_ratio, at_s, at_t)
        alpha_s, alpha_t = 1 - cosine()(jnp.float64(S_TIME)), 1 - cosine()(jnp.float64(T_TIME))
        revealed = (alpha_s - alpha_t) / (1 - alpha_t)
        from_mask = jnp.concatenate([revealed * clean, jnp.full((*states.shape, 1), 1 - revealed)], axis=-1)
        expected = jnp.where((states == V)[..., None], from_mask, jax.nn.one_hot(states, V + 1))
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("process", ["absorbing", "uniform"])
def test_tweedie_is_exact_for_one_position(process):
    """p_t M(s, t) = p_s for L = 1 and steps of any length."""
    with jax.enable_x64(True):
        made, joint = PROCESSES[process](), jnp.asarray(random_toy_distribution(1, V, 1).probability)
        distribution_at, step = one_position(made, joint, "tweedie")
        for s, t in ((0.0, 0.99), (0.0, 0.2), (0.5, 0.6), (0.2, 0.9)):
            np.testing.assert_allclose(distribution_at(t) @ step(s, t), distribution_at(s), atol=1e-12)


@pytest.mark.few(2)
@pytest.mark.parametrize("process", ["absorbing", "uniform"])
@pytest.mark.parametrize("sampler", ["euler", "tau_leaping"])
def test_euler_and_tau_leaping_err_quadratically(process, sampler):
    with jax.enable_x64(True):
        made, joint = PROCESSES[process](), jnp.asarray(random_toy_distribution(1, V, 1).probability)
        parameterization, states, errors = score(made), states_of(made, 1), []
        for size in (1e-2, 1e-3):
            stepped = noised_distribution(made, joint, states, 0.5) @ step_matrix(
                sampler, parameterization, joint, states, 0.5 - size, 0.5
            )
            errors.append(float(jnp.abs(stepped - noised_distribution(made, joint, states, 0.5 - size)).max()))
    assert abs(np.log10(errors[0] / errors[1]) - 2) < 0.05


def test_euler_stays_with_the_remaining_probability():
    with jax.enable_x64(True):
        made, joint, states = enumerated("uniform")
        log_ratio = best_log_ratios(score(made), joint, states, T_TIME)
        at_t = jnp.full(states.shape, T_TIME)
        jumps = 0.01 * reverse_rates(made, states, log_ratio, at_t)
        stays = jax.nn.one_hot(states, V, dtype=jnp.float64)
        expected = jumps + stays * (1 - jumps.sum(axis=-1, keepdims=True))
        np.testing.assert_allclose(euler_distribution(made, states, log_ratio, at_t - 0.01, at_t), expected, atol=1e-14)
        # rates too large for the step
        probs = euler_distribution(made, states, log_ratio + 5, at_t - 0.5, at_t)
        np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-14)
        assert float(probs.min()) >= 0 and float((probs * stays).max()) == 0


def test_tau_leaping_rejects_more_than_one_jump():
    """Sum over all numbers of jumps: y where there is one in all and it leads to y, else no move."""
    with jax.enable_x64(True):
        made = uniform(V, linear())
        x, log_ratio, t = jnp.array([1]), jnp.log(jnp.array([[0.7, 1.0, 2.5]])), jnp.array([0.5])
        means = 0.4 * np.asarray(reverse_rates(made, x, log_ratio, t))[0]
        assert means[1] == 0 and means.sum() > 0.5
        expected = np.zeros(V)
        for counts in itertools.product(range(20), repeat=2):
            chance = np.prod(poisson.pmf(counts, means[[0, 2]]))
            expected[{(1, 0): 0, (0, 1): 2}.get(counts, 1)] += chance
        np.testing.assert_allclose(tau_leaping_distribution(made, x, log_ratio, t - 0.4, t)[0], expected, atol=1e-13)


def test_infinite_ratios_give_distributions():
    """A network that gives a token probability 0 has ratios of e^(+-1e30)."""
    made = absorbing(V, linear())
    x, t = jnp.array([0, V, V]), jnp.full(3, 0.5)
    logits = jnp.array([[-1e30, 0.0, 0.0], [-1e30, 0.0, 0.0], [500.0, -500.0, 0.0]])
    log_ratio = leave_one_out(made).log_ratio(logits, x, t)
    for distribution_of in (euler_distribution, tau_leaping_distribution, tweedie_distribution):
        probs = jax.jit(partial(distribution_of, made))(x, log_ratio, t - 0.1, t)
        np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-6)
        assert float(probs.min()) >= 0
        np.testing.assert_array_equal(probs[0], [1, 0, 0, 0])


def test_last_step_leaves_no_mask():
    made = gidd(V, linear(), 0.3)
    x, probs, clean = jnp.array([V, 1]), jnp.full((2, V + 1), 0.25), jnp.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(without_mask(made, x, probs, clean), [[0.5, 0.25, 0.25, 0], [0.25, 0.25, 0.25, 0]])
    real = uniform(V, linear())
    np.testing.assert_array_equal(without_mask(real, x, probs[:, :V], clean), probs[:, :V])


@pytest.mark.few(1)
@pytest.mark.parametrize("process", ["absorbing", "uniform", "gidd"])
def test_corrector_draws_with_its_probabilities(process):
    """They are clipped where they would exceed 1."""
    with jax.enable_x64(True):
        made, joint, states = enumerated(process)
        parameterization, chosen, rows = leave_one_out(made), 2 * made.states + made.states - 1, 20_000
        log_ratio = best_log_ratios(parameterization, joint, states, T_TIME)[chosen]
        x, each = jnp.tile(states[chosen], (rows, 1)), jnp.broadcast_to(log_ratio, (rows, *log_ratio.shape))
        step = jax.jit(partial(corrector_step, process=made, x=x, log_ratio=each, t=jnp.full(x.shape, T_TIME)))
        for size in (0.1, 5.0):
            drawn = step(jax.random.key(3), size=jnp.asarray(size))
            probs = np.asarray(corrector_distribution(parameterization, joint, states, T_TIME, size))[chosen]
            for position in range(L):
                assert fits(np.bincount(drawn[:, position], minlength=made.states), probs[position])


@pytest.mark.slow
def test_metropolis_is_stationary_and_draws_as_computed():
    """P(x, x') = min(1, p(x') / p(x)) / (L (V - 1)) for neighbours, p P = p, and p is where every start ends."""
    with jax.enable_x64(True):
        made, joint, states = enumerated("uniform")
        probs = np.asarray(noised_distribution(made, joint, states, T_TIME))
        log_ratio = best_log_ratios(score(made), joint, states, T_TIME)
        proposal = jnp.ones((len(states), L, V)) / (L * (V - 1))
        moves = np.asarray(generator(proposal * acceptance(log_ratio), states)) + np.eye(len(states))
    assert moves.min() >= 0
    np.testing.assert_allclose(probs @ moves, probs, atol=1e-12)
    np.testing.assert_allclose(np.linalg.matrix_power(moves, 4000)[0], probs, atol=1e-10)
    rows, x = 20_000, np.asarray(states[5])
    step = jax.vmap(
        lambda key, free: metropolis_step(key, states[5], log_ratio[5].astype(jnp.float32), free), (0, None)
    )
    keys = jax.random.split(jax.random.key(4), rows)
    drawn = np.asarray(step(keys, jnp.ones(L, bool)))
    assert fits(np.bincount(drawn @ [V, 1], minlength=len(states)), moves[5])
    held = np.asarray(step(keys, jnp.array([False, True])))
    assert (held[:, 0] == x[0]).all() and (held[:, 1] != x[1]).any()
