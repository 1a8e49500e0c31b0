"""With the network that knows the toy distribution every objective's bound is -log p(x), for every x: enumeration,
quadrature."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.exact import ToyDistribution, conditionals, entropy, nats, random_toy_distribution
from mdlm_jax.exact.bounds import tanh_sinh
from mdlm_jax.exact.evidence import best_network, leave_one_out
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.objectives.parameterizations import full_posterior
from mdlm_jax.objectives.parameterizations import leave_one_out as plug_in
from mdlm_jax.objectives.score_entropy import duo, gidd, score_entropy, sedd, udlm
from mdlm_jax.processes.mixture import absorbing, hybrid, uniform
from mdlm_jax.schedules import cosine, linear, polynomial
from tests.exact.enumeration import bounds

V = 3
TIGHT = {
    "sedd absorbing raw": lambda: (sedd(absorbing(V, linear()), "raw"), 40, 1e-12),
    "sedd absorbing scaled": lambda: (sedd(absorbing(V, cosine()), "scaled"), 40, 1e-10),
    "sedd absorbing denoiser": lambda: (sedd(absorbing(V, polynomial(2.0)), "denoiser"), 40, 1e-10),
    "sedd uniform raw": lambda: (sedd(uniform(V, linear()), "raw"), 60, 1e-11),
    "sedd uniform denoiser": lambda: (sedd(uniform(V, cosine()), "denoiser"), 60, 1e-11),
    "sedd hybrid raw": lambda: (sedd(hybrid(V, linear(), 0.4), "raw"), 60, 1e-11),
    "sedd hybrid denoiser": lambda: (sedd(hybrid(V, linear(), 0.4), "denoiser"), 60, 1e-11),
    "gidd, root at the ends": lambda: (gidd(V, linear(), 0.2, 1.0), 60, 5e-5),
    "gidd, smooth": lambda: (gidd(V, linear(), 0.2, 2.0), 60, 1e-11),
    "udlm": lambda: (udlm(V, linear()), 60, 1e-11),
    "duo": lambda: (duo(V), 160, 1e-6),
    "genmd4": lambda: (genmd4(V), 60, 1e-11),
}


@functools.cache
def toy():
    return random_toy_distribution(0, V, length=2)


@functools.cache
def long():
    return random_toy_distribution(1, 2, length=4)


def phi_of(objective):
    return {"power": jnp.array([-0.5, 0.5, 2.0])} if objective.surrogate is not None else ()


@pytest.mark.few(6)
@pytest.mark.parametrize("name", TIGHT)
def test_best_network_is_tight_for_every_sequence(name):
    objective, nodes, tolerance = TIGHT[name]()
    objective_params = phi_of(objective)
    value = bounds(
        objective, best_network(objective, toy(), objective_params), toy().tokens, *tanh_sinh(nodes), objective_params
    )
    np.testing.assert_allclose(value, nats(toy()), atol=tolerance)


BLOCKS = {
    "sedd absorbing": lambda: sedd(absorbing(2, linear()), "denoiser"),
    "sedd uniform": lambda: sedd(uniform(2, linear()), "raw"),
    "gidd": lambda: gidd(2, linear(), 0.2, 2.0),
    "genmd4": lambda: genmd4(2),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_every_size_are_tight(name, size):
    objective = BLOCKS[name]()
    objective_params = {"power": jnp.array([-0.5, 1.0])} if objective.surrogate is not None else ()
    blocks = block(objective, size, long().length)
    some = [0, 5, 11, 14]
    value = bounds(
        blocks, best_network(blocks, long(), objective_params), long().tokens[some], *tanh_sinh(40), objective_params
    )
    np.testing.assert_allclose(value, nats(long())[some], atol=1e-7)


@pytest.mark.parametrize("name", ["uniform", "hybrid", "gidd", "absorbing"])
def test_plug_in_needs_the_leave_one_out_distribution(name):
    """With p(x_i | all of z) in place of p(x_i | z without z_i) only masks have the right loss."""
    objective = {
        "uniform": udlm(V, linear()),
        "hybrid": score_entropy(plug_in(hybrid(V, linear(), 0.4)), timed=True),
        "gidd": gidd(V, linear(), 0.2, 2.0),
        "absorbing": score_entropy(plug_in(absorbing(V, linear())), timed=False),
    }[name]
    wrong = objective._replace(
        parameterization=lambda objective_params: full_posterior(objective.parameterization(objective_params).process)
    )
    left_out, plain = (
        bounds(objective, best_network(asked, toy()), toy().tokens, *tanh_sinh(60)) for asked in (objective, wrong)
    )
    probability = toy().probability.ravel()
    print(f"{name}: H {entropy(toy()):.4f}, left out {probability @ left_out:.4f}, plain {probability @ plain:.4f}")
    np.testing.assert_allclose(left_out, nats(toy()), atol=1e-10)
    if name == "absorbing":
        np.testing.assert_allclose(plain, left_out, atol=1e-10)
    else:
        assert probability @ plain > entropy(toy()) + 0.05


@pytest.mark.parametrize("name", ["uniform", "hybrid"])
def test_d3pm_needs_the_leave_one_out_distribution(name):
    """At T = 64 the leave-one-out distribution is near the entropy, and the full posterior is far above it."""
    process = uniform(V, linear()) if name == "uniform" else hybrid(V, linear(), 0.4)
    objective = d3pm(process, 64, 0.0)
    wrong = objective._replace(parameterization=lambda objective_params: full_posterior(process))
    steps = np.arange(1, 65) / 64, np.full(64, 1 / 64)
    left_out, plain = (
        toy().probability.ravel() @ bounds(objective, best_network(asked, toy()), toy().tokens, *steps)
        for asked in (objective, wrong)
    )
    assert entropy(toy()) < left_out < entropy(toy()) + 0.05
    assert plain > left_out + 0.05


def test_leave_one_out_spans_marginal_to_conditional():
    """It is the marginal without evidence, and the conditional when all other tokens are visible."""
    toy = random_toy_distribution(2, V, length=3)
    np.testing.assert_allclose(
        leave_one_out(jnp.asarray(toy.probability), jnp.ones((3, V)))[1], toy.probability.sum((0, 2)), rtol=1e-6
    )
    evidence = jnp.asarray(np.eye(V)[[2, 0, 1]])
    np.testing.assert_allclose(
        leave_one_out(jnp.asarray(toy.probability), evidence), conditionals(toy)[2, 0, 1], rtol=1e-6
    )


def test_leave_one_out_is_bayes_rule():
    """Noisy evidence of the other token, by hand for two positions."""
    joint = ToyDistribution(np.array([[0.3, 0.1], [0.2, 0.4]]))
    seen = np.array([[0.9, 0.2], [0.5, 0.7]])
    probs = leave_one_out(jnp.asarray(joint.probability), jnp.asarray(seen))
    first = joint.probability @ seen[1]
    np.testing.assert_allclose(probs[0], first / first.sum(), rtol=1e-6)
