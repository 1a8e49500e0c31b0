"""Noise undone step by step ends in the distribution that training would have learned: as T grows, at the rate of
theory."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.exact import random_toy_distribution
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.objectives.jumps import csm, tauldr
from mdlm_jax.objectives.masked import masked
from mdlm_jax.objectives.parameterizations import full_posterior, leave_one_out, score
from mdlm_jax.objectives.score_entropy import duo, gidd, sedd, udlm
from mdlm_jax.processes.matrix import discretised_gaussian
from mdlm_jax.processes.mixture import absorbing, hybrid, uniform
from mdlm_jax.sampling import Reverse, Trained, sample
from mdlm_jax.sampling.reverse import DISTRIBUTIONS, latest_time
from mdlm_jax.sampling.samplers import SAMPLERS
from mdlm_jax.schedules import cosine, geometric, linear
from tests.sampling.chains import distribution_of_samples, total_variation
from tests.sampling.toys import RARE, L, V, all_states, counts, oracle_of, toy_joint

ROWS = 4_000


def empty():
    return jnp.zeros((ROWS, 0), int)


PROCESSES = {
    "absorbing": lambda objective_params: leave_one_out(absorbing(V, linear())),
    "uniform": lambda objective_params: leave_one_out(uniform(V, linear())),
}
PAIRS = list(itertools.product(PROCESSES, (*DISTRIBUTIONS, "predictor_corrector")))
FIRST = [("uniform", "predictor_corrector"), ("absorbing", "tweedie")]  # of the default tier
every_process = pytest.mark.parametrize("process", PROCESSES)


def error_of(sampler, parameterization, joint, num_steps, correctors=0):
    probs = distribution_of_samples(sampler, parameterization, jnp.asarray(joint), num_steps, correctors=correctors)
    return total_variation(probs, parameterization(()).process, joint)


@every_process
@pytest.mark.parametrize("sampler", ["posterior", "tweedie", "euler", "tau_leaping"])
def test_error_is_proportional_to_the_step(process, sampler):
    """The total variation to the joint distribution is C / T: it halves where T doubles."""
    joint = random_toy_distribution(0, V, 2).probability
    with jax.enable_x64(True):
        errors = [error_of(sampler, PROCESSES[process], joint, num_steps) for num_steps in (128, 256, 512)]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] > 1e-5 and abs(slopes[-1] - 1) < 0.06 and abs(slopes[0] - 1) < 0.1


def test_discrete_chain_begins_at_its_last_step():
    """In a discretised Gaussian no survival rate says when to begin."""
    assert latest_time(discretised_gaussian(64, 100)) == 1 and latest_time(uniform(V, linear())) < 1


@every_process
def test_correctors_lower_the_error(process):
    joint = random_toy_distribution(0, V, 2).probability
    with jax.enable_x64(True):
        plain, corrected = (
            error_of("predictor_corrector", PROCESSES[process], joint, 16, correctors=number) for number in (0, 2)
        )
        plain_euler = error_of("euler", PROCESSES[process], joint, 16)
    assert plain == plain_euler and corrected < 0.85 * plain


@pytest.mark.few(2)
@pytest.mark.parametrize(("process", "sampler"), [*FIRST, *(pair for pair in PAIRS if pair not in FIRST)])
def test_few_steps_have_their_exact_distribution(process, sampler):
    """The product of the step matrices gives the samples' distribution, which is not the joint."""
    parameterization, num_steps = PROCESSES[process], 3
    correctors = 2 if sampler == "predictor_corrector" else 0
    with jax.enable_x64(True):
        probs = distribution_of_samples(
            sampler, parameterization, jnp.asarray(toy_joint().reshape((V,) * L)), num_steps, correctors=correctors
        )
        states = parameterization(()).process.states
        probs = np.asarray(probs).reshape((states,) * L)[:V, :V, :V].ravel()
    assert abs(probs.sum() - 1) < 1e-9
    plan = SAMPLERS[sampler](steps=num_steps)
    tokens, trace = sample(
        jax.random.key(0), oracle_of(parameterization), (), empty(), plan, L, Trained(parameterization=parameterization)
    )
    assert chisquare(counts(tokens), ROWS * probs / probs.sum()).pvalue > RARE
    assert chisquare(counts(tokens), ROWS * toy_joint()).pvalue < RARE
    np.testing.assert_array_equal(trace.evaluations, num_steps + correctors * (num_steps - 1))


@functools.cache
def smooth():
    """No state is rare: an error of O(1 / T) hides in noise."""
    return np.random.default_rng(1).dirichlet(np.full(V**L, 2.0))


OBJECTIVES = {
    "masked": lambda: (masked(V, cosine()), "posterior", 100),
    "d3pm hybrid": lambda: (d3pm(hybrid(V, linear(), 0.5), 100, 0.0), "posterior", 100),
    "sedd absorbing": lambda: (sedd(absorbing(V, geometric()), "scaled"), "tweedie", 200),
    "sedd uniform": lambda: (sedd(uniform(V, linear()), "raw"), "predictor_corrector", 100),
    "tauldr": lambda: (tauldr(uniform(V, cosine())), "tau_leaping", 200),
    "gidd": lambda: (gidd(V, linear(), 0.2, 1.0), "posterior", 100),
    "udlm": lambda: (udlm(V, linear()), "euler", 200),
    "duo": lambda: (duo(V), "posterior", 100),
    "genmd4": lambda: (genmd4(V), "posterior", 100),
    "csm": lambda: (csm(V, linear(), "denoising"), "metropolis", 1000),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["udlm", *(name for name in OBJECTIVES if name != "udlm")])
def test_many_steps_give_the_joint(name):
    objective, sampler, steps = OBJECTIVES[name]()
    objective_params = {"power": jnp.array([-0.5, 0.5, 2.0])} if name == "genmd4" else ()
    plan = SAMPLERS[sampler](steps=steps)
    tokens, trace = sample(
        jax.random.key(1),
        oracle_of(objective.parameterization, objective_params, smooth()),
        (),
        empty(),
        plan,
        L,
        Trained(parameterization=objective.parameterization, objective_params=objective_params),
    )
    assert chisquare(counts(tokens), ROWS * smooth()).pvalue > RARE
    assert int(trace.step.min()) >= 0 and int(trace.step.max()) < steps
    # independent positions would not pass
    apart = np.prod(
        [smooth().reshape((V,) * L).sum(tuple({0, 1, 2} - {i}))[all_states()[:, i]] for i in range(L)], axis=0
    )
    assert chisquare(counts(tokens), ROWS * apart).pvalue < RARE


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "steps"), [("euler", 200), ("metropolis", 1000)])
def test_many_steps_give_the_joint_after_a_prompt(sampler, steps):
    parameterization, first = OBJECTIVES["csm"]()[0].parameterization, 1
    plan = SAMPLERS[sampler](steps=steps)
    model = oracle_of(parameterization, joint=smooth(), given=1)
    tokens, trace = sample(
        jax.random.key(2), model, (), jnp.full((ROWS, 1), first), plan, L, Trained(parameterization=parameterization)
    )
    follows = all_states()[:, 0] == first
    assert counts(tokens)[~follows].sum() == 0
    assert chisquare(counts(tokens)[follows], ROWS * smooth()[follows] / smooth()[follows].sum()).pvalue > RARE
    np.testing.assert_array_equal(trace.step[:, 0], -1)
    np.testing.assert_array_equal(trace.log_probability[:, 0], 0)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("sampler", "parameterization"),
    [("tau_leaping", score), ("posterior", full_posterior), ("tweedie", score), ("euler", leave_one_out)],
)
def test_no_mask_is_left(sampler, parameterization):
    """In this schedule 1% of positions are clean at t = 1 and 1% masked at t = 0, and two steps jump too seldom."""

    def of(objective_params):
        return parameterization(absorbing(V, lambda t: 0.01 + 0.98 * t))

    plan = SAMPLERS[sampler](steps=2)
    tokens, trace = sample(
        jax.random.key(3), oracle_of(of), (), jnp.zeros((2000, 0), int), plan, L, Trained(parameterization=of)
    )
    assert int(tokens.min()) >= 0 and int(tokens.max()) < V
    assert np.isfinite(np.asarray(trace.log_probability)).all()


def test_trace_records_steps_and_log_probabilities():
    """With masks each position moves once, so the conditionals of one order multiply to p(x)."""
    parameterization = PROCESSES["absorbing"]
    plan = Reverse("posterior", steps=300)
    tokens, trace = sample(
        jax.random.key(4),
        oracle_of(parameterization),
        (),
        empty()[:500],
        plan,
        L,
        Trained(parameterization=parameterization),
    )
    apart = np.array([len(set(row)) == L for row in np.asarray(trace.step)])
    index = np.ravel_multi_index(np.asarray(tokens).T, (V,) * L)
    assert apart.mean() > 0.9
    np.testing.assert_allclose(trace.log_probability.sum(axis=1)[apart], np.log(toy_joint()[index])[apart], atol=1e-4)
