"""Logits of scored positions only: the same loss and gradient, for as many chunks as they fill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.base import View, cross_entropy, full
from mdlm_jax.objectives.block import block
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import look, nats

V, LENGTH, BATCH, CHUNK = 13, 16, 4, 2
MAKE = {
    "ar": lambda: OBJECTIVES["ar"](V),
    "masked": lambda: OBJECTIVES["masked"](V, linear()),
    "complementary": lambda: OBJECTIVES["masked"](V, linear(), complementary=True),
    "blocks": lambda: block(OBJECTIVES["masked"](V, linear()), 4, LENGTH),
    "genmd4": lambda: OBJECTIVES["genmd4"](V),
    "gidd, blocks": lambda: block(OBJECTIVES["gidd"](V, linear(), 0.2, 1.0), 4, LENGTH),
    "gaussian": lambda: OBJECTIVES["gaussian"](V),
}


def examples() -> Example:
    """Rows that end in padding and begin with a prompt."""
    tokens = np.random.default_rng(0).integers(V, size=(BATCH, LENGTH)).astype(np.int32)
    segments = np.where(np.arange(LENGTH) < LENGTH - 2, 1, 0) * np.ones((BATCH, 1), np.int32)
    prompt_mask = np.broadcast_to(np.arange(LENGTH) < 3, tokens.shape)
    return Example(jnp.asarray(tokens), jnp.asarray(segments), jnp.asarray(prompt_mask))


FEW = ("masked", "gidd, blocks")


@pytest.mark.few(1)
@pytest.mark.parametrize("name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in MAKE])
def test_scored_only_keeps_value_and_gradient(name):
    objective = MAKE[name]()
    architecture = Architecture(V, 1, 8, 1, 1, 8, input_width=objective.inputs)
    model = transformer(architecture, Execution())
    params, objective_params = jax.jit(model.init)(jax.random.key(1)), objective.init(jax.random.key(2))
    keys, u = jax.random.split(jax.random.key(3), BATCH), jnp.array([0.02, 0.4, 0.6, 0.9])

    def slope(scored_only):
        def total(params, objective_params):
            view = look(objective, objective_params, keys, examples(), u)
            return nats(model, objective, params, objective_params, view, CHUNK, scored_only=scored_only)

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(params, objective_params)

    expected = slope(False)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected[1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6 * scale), slope(True), expected)


@pytest.mark.parametrize(("num_scored", "chunks"), [(0, 0), (1, 1), (8, 1), (9, 2), (64, 8)])
def test_head_reads_only_filled_chunks(num_scored, chunks):
    """2 positions of 4 views make a chunk of 8. Any number of loss positions works, from none to all."""
    weight = jnp.zeros(BATCH * LENGTH).at[jax.random.permutation(jax.random.key(0), 64)[:num_scored]].set(1.0)
    ids = jnp.zeros((BATCH, LENGTH), jnp.int32)
    view = View(ids, ids, weight.reshape(BATCH, LENGTH), ids[:, :1], ids, ids, ids, jnp.zeros(BATCH))
    read, whole = [], transformer(Architecture(V, 1, 8, 1, 1, 8), Execution())

    def head(params, hidden):
        jax.debug.callback(lambda size: read.append(int(size)), hidden.size // 8)
        return whole.head(params, hidden)

    model = whole._replace(hidden=lambda *_, **__: (jnp.ones((BATCH, LENGTH, 8)), None), head=head)
    objective = OBJECTIVES["ar"](V)._replace(token_loss=cross_entropy, mask=full)
    params = whole.init(jax.random.key(0))
    total, each = jax.jit(lambda params: nats(model, objective, params, (), view, CHUNK, scored_only=True))(params)
    jax.effects_barrier()
    assert read == [8] * chunks
    nats_of_one = float(-jax.nn.log_softmax(whole.head(params, jnp.ones((1, 8))))[0, 0])
    np.testing.assert_allclose(total, num_scored * nats_of_one, rtol=1e-5)
    np.testing.assert_allclose(each, view.weight.sum(axis=1) * nats_of_one, rtol=1e-5)
