"""Muon and Lion against optax by hand, against exact polar factors and against their formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.training.directions import is_hidden_matrix
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer

SMALL = Architecture(11, 2, 16, 2, 1, 48, time_conditioning=True, time_width=8)
SETTINGS = {
    "decay": "constant",
    "final": 1.0,
    "beta_1": 0.9,
    "beta_2": 0.95,
    "epsilon": 1e-8,
    "clip": 1e9,
    "decay_everything": False,
}


@functools.cache
def params():
    shapes = jax.eval_shape(transformer(SMALL, Execution()).init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)


def gradients(seed, like):
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(jax.random.normal(*pair) for pair in zip(keys, (x.shape for x in leaves), strict=True))


@functools.cache
def updates(name, weight_decay=0.0, **options):
    """Two updates of learning rate 0.1."""
    optimizer = make_optimizer(name, **SETTINGS | options)
    trainable = params(), ()

    @jax.jit
    def step(state, gradient):
        return optimizer.update(gradient, state, trainable)

    state = jax.jit(optimizer.init)(trainable)._replace(hyperparams=hyperparameters(0.1, weight_decay, 0, 10))
    found = []
    for number in range(2):
        update, state = step(state, gradients(number, trainable))
        found.append(update[0])
    return found


def test_muon_is_optax_muon_of_each_matrix():
    found = updates("muon", weight_decay=0.5)[1]["blocks"]
    own = {
        name: [gradients(step, (params(), ()))[0]["blocks"][name]["kernel"] for step in range(2)]
        for name in ("down", "key")
    }
    muon = optax.contrib.muon(0.1, beta=0.95, weight_decay=0.5, consistent_rms=0.2)
    update = jax.jit(muon.update)
    for name, of_steps in own.items():
        for layer in range(2):
            weight = jnp.ones(of_steps[0].shape[1:])
            state = muon.init(weight)
            for gradient in of_steps:
                expected, state = update(gradient[layer], state, weight)
            np.testing.assert_allclose(found[name]["kernel"][layer], expected, rtol=1e-4, atol=1e-6)


def test_muon_is_near_the_polar_factor():
    """U V^T of the gradient's SVD, with singular values between 0.7 and 1.2, as Muon's authors state of five steps."""
    kernel = gradients(0, (params(), ()))[0]["blocks"]["up"]["kernel"]
    found = updates("muon")[0]["blocks"]["up"]["kernel"]
    for gradient, update in zip(np.asarray(kernel), np.asarray(found), strict=True):
        u, values, v = np.linalg.svd(gradient, full_matrices=False)
        assert values.min() / values.max() > 0.1
        inside = u.T @ (update / (-0.1 * 0.2 * 48**0.5)) @ v.T
        singular = np.diag(inside)
        assert singular.min() > 0.65 and singular.max() < 1.2
        np.testing.assert_allclose(inside, np.diag(singular), atol=1e-4)


def test_muon_leaves_all_else_to_adamw():
    muon, adamw = updates("muon")[0], updates("adamw")[0]
    for (path, one), other in zip(jax.tree.leaves_with_path(muon), jax.tree.leaves(adamw), strict=True):
        assert is_hidden_matrix(path) != bool((one == other).all())
    names = {path[1].key for path, _ in jax.tree.leaves_with_path(muon) if is_hidden_matrix(path)}
    assert names == {"query", "key", "value", "attention_out", "gate", "up", "down"}


def test_frozen_matrices_stay():
    found = updates("muon", frozen=("blocks/up/*", "ends/*"))[0]
    still = jax.tree.leaves(found["ends"]) + [found["blocks"]["up"]["kernel"]]
    assert not any(leaf.any() for leaf in still) and found["blocks"]["down"]["kernel"].all()


def test_lion_by_formula():
    """The sign of 0.9 m + 0.1 g, where m is 0.05 times the first gradient (arXiv 2302.06675)."""
    first, second = (gradients(step, (params(), ()))[0]["ends"]["head"] for step in range(2))
    found = updates("lion", weight_decay=0.5)[1]["ends"]["head"]
    np.testing.assert_allclose(found, -0.1 * (jnp.sign(0.9 * 0.05 * first + 0.1 * second) + 0.5), rtol=1e-5)


@pytest.mark.parametrize(("name", "factor"), [("muon", 1 / 2), ("lion", 1 / 4)])
def test_rates_under_mup(name, factor):
    """At 4 times the width, Lion's matrices have Adam's 1 / 4; Muon's update grows by the root of the width alone."""
    base = SMALL._replace(base_width=4, base_head_width=SMALL.head_width)
    plain, scaled = (
        updates(name, architecture=base._replace(parametrization=one))[0]["blocks"] for one in ("standard", "mup")
    )
    for module in ("query", "down"):
        np.testing.assert_allclose(scaled[module]["kernel"], factor * plain[module]["kernel"], rtol=1e-3, atol=1e-6)


def test_unknown_optimizer_is_refused():
    with pytest.raises(UserError, match="optim.name is 'sgd'; accepted: adamw, muon, lion, schedule_free"):
        make_optimizer("sgd", **SETTINGS).init((params(), ()))
