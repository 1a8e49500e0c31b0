"""The closed forms of sums over the vocabulary, and their gradients, against the sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import xlogy

from mdlm_jax.errors import UserError
from mdlm_jax.objectives import parameterizations
from mdlm_jax.objectives.closed_form import log1p_sum, rates_out_of, score_entropy_of, step_divergence
from mdlm_jax.objectives.d3pm import dense_divergence
from mdlm_jax.objectives.score_entropy import score_entropy
from mdlm_jax.processes import mixture
from mdlm_jax.schedules import cosine, linear
from tests.once import once

V = 4
PROCESSES = {
    "absorbing": lambda: mixture.absorbing(V, linear()),
    "uniform": lambda: mixture.uniform(V, cosine()),
    "hybrid": lambda: mixture.hybrid(V, linear(), 0.4),
    "gidd": lambda: mixture.gidd(V, linear(), 0.2),
}
ANSWERS = {
    "leave_one_out": parameterizations.leave_one_out,
    "full_posterior": parameterizations.full_posterior,
    "score": parameterizations.score,
}
processes = pytest.mark.parametrize("process", PROCESSES)


def positions(process):
    """Every token x, every state z it may have become, at three times, with arbitrary logits."""
    x, z, time = (grid.ravel() for grid in np.meshgrid(range(V), range(process.states), range(3)))
    t = np.array([0.05, 0.4, 0.9])[time]
    logits = np.random.default_rng(0).normal(size=(len(x), V)) * 2
    probs = np.asarray(process.forward(jax.nn.one_hot(x, V), jnp.asarray(t)))
    possible = probs[np.arange(len(x)), z] > 0
    return [jnp.asarray(values[possible]) for values in (logits, x, z, t)]


def assert_same(one, other, logits, relative=1e-11):
    """Values, and slopes by the logits."""
    np.testing.assert_allclose(one(logits), other(logits), rtol=relative, atol=1e-11)
    np.testing.assert_allclose(slope(one)(logits), slope(other)(logits), rtol=relative, atol=1e-10)


def slope(function):
    return jax.grad(lambda logits: function(logits).sum())


# GIDD resamples masks: its reverse rates lead into the mask, which raw scores do not speak of
SCORED = [
    (process, parameterization)
    for process in PROCESSES
    for parameterization in ANSWERS
    if (process, parameterization) != ("gidd", "score")
]


@pytest.mark.few(3)
@pytest.mark.parametrize(("process", "parameterization"), SCORED)
def test_score_entropy_and_rates_equal_their_sums(process, parameterization):
    with jax.enable_x64(True):
        process = once(PROCESSES[process])
        read = ANSWERS[parameterization](process)
        logits, x, z, t = positions(process)
        there = process.forward(jax.nn.one_hot(x, V), t)
        r = there / jnp.take_along_axis(there, z[:, None], axis=-1)

        def ratios(logits):
            log_s = read.log_ratio(logits, z, t)
            states = log_s.shape[-1]  # scores have no entry for the mask: no rate leads from there
            return log_s, process.rate(z, t)[:, :states], r[:, :states]

        def summed(logits):
            log_s, rate, r = ratios(logits)
            return jnp.where(rate > 0, rate * (jnp.exp(log_s) - r * log_s + xlogy(r, r) - r), 0).sum(axis=-1)

        def rates_out(logits):
            log_s, rate, _ = ratios(logits)
            return jnp.where(rate > 0, rate * jnp.exp(log_s), 0).sum(axis=-1)

        assert_same(lambda logits: score_entropy_of(process, read.scores(logits, x, z, t), x, z, t), summed, logits)
        assert_same(lambda logits: rates_out_of(process, read.scores(logits, x, z, t), z, t), rates_out, logits)


@pytest.mark.few(2)
@processes
@pytest.mark.parametrize("s_over_t", [0.3, 0.0, 0.999])
def test_step_divergence_equals_its_sum(process, s_over_t):
    process = once(PROCESSES[process])
    with jax.enable_x64(True):
        logits, x, z, t = positions(process)
        assert_same(
            lambda logits: step_divergence(process, logits, x, z, t, (1 - s_over_t) * t),
            lambda logits: dense_divergence(process, logits, x, z, t, (1 - s_over_t) * t),
            logits,
            relative=1e-7 if s_over_t > 0.9 else 1e-11,  # a small difference of probabilities
        )


@pytest.mark.parametrize("num_steps", [100, 10_000, 1_000_000])
def test_masking_steps_are_accurate_in_float32(num_steps):
    """Agrees with float64 at random steps, the first and the last. A plain difference is 4% off at a million steps."""
    step = np.append(np.random.default_rng(0).integers(1, num_steps, 500), [1, 2, num_steps])

    def nats():
        process = mixture.absorbing(V, cosine())
        logits, t = jnp.linspace(0.0, 1, V), jnp.asarray(step / num_steps)
        x, z = jnp.zeros(step.shape, jnp.int32), jnp.full(step.shape, V, jnp.int32)
        logits = jnp.broadcast_to(logits, (len(step), V))
        return num_steps * step_divergence(process, logits, x, z, t, 1 / num_steps)

    single = nats()
    with jax.enable_x64(True):
        double = nats()
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=2e-6, atol=1e-6)


def test_log1p_sum_matches_value_and_gradient():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        arguments = [jnp.asarray(rng.normal(size=shape)) for shape in ((2, 3, V), (2, 3))]
        arguments.append(jnp.asarray(rng.random((2, 1))))

        def summed(logits, log_normaliser, scale):
            return jnp.log1p(scale[..., None] * jnp.exp(logits - log_normaliser[..., None])).sum(axis=-1)

        np.testing.assert_allclose(log1p_sum(*arguments), summed(*arguments), rtol=1e-13)
        for argument in range(3):
            ours = jax.grad(lambda *all: jnp.sin(log1p_sum(*all)).sum(), argument)(*arguments)
            ruled = jax.grad(lambda *all: jnp.sin(summed(*all)).sum(), argument)(*arguments)
            np.testing.assert_allclose(ours, ruled, rtol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", [1e-6, 1 - 1e-6])
def test_losses_and_gradients_are_finite_at_both_ends(process, t):
    """Holds in float32 at V = 1,000 with a confident network, right or wrong."""
    vocab = 1000
    make = {
        "absorbing": lambda: mixture.absorbing(vocab, cosine()),
        "uniform": lambda: mixture.uniform(vocab, cosine()),
        "hybrid": lambda: mixture.hybrid(vocab, cosine(), 0.4),
        "gidd": lambda: mixture.gidd(vocab, cosine(), 0.2),
    }
    noise = make[process]()
    x, z = (grid.ravel() for grid in jnp.meshgrid(jnp.array([0, 1]), jnp.array([0, 1, noise.states - 1])))
    if process == "absorbing":  # a token becomes no other
        x, z = (values[(x == z) | (z == vocab)] for values in (x, z))
    times = jnp.full(x.shape, t, jnp.float32)
    logits = jnp.zeros((x.size, vocab)).at[:, 0].set(100.0)
    width = jnp.minimum(times, 1e-3)

    def loss(logits, read):
        return score_entropy_of(noise, read.scores(logits, x, z, times), x, z, times).sum()

    def divergence(logits):
        return step_divergence(noise, logits, x, z, times, width).sum()

    found = [jax.value_and_grad(divergence)(logits)]
    for parameterization in (parameterizations.leave_one_out, parameterizations.full_posterior):
        found.append(jax.value_and_grad(loss)(logits, parameterization(noise)))
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(found))


def test_score_entropy_refuses_a_process_without_mixture():
    other = once(PROCESSES["uniform"])._replace(mixture=None)
    with pytest.raises(UserError, match="process: accepted is one that mixes"):
        score_entropy(parameterizations.full_posterior(other), timed=True)
