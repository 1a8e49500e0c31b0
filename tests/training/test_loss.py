"""The loss by chunks is the loss: same value, same gradients, and the logits [B, L, V] are nowhere."""

import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Batch, Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.base import View
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import largest_divisor, look, nats
from mdlm_jax.training.optimizer import make_optimizer
from mdlm_jax.training.step import State, StepOptions, make_train_step

V, LENGTH, BATCH = 101, 24, 4
SMALL = Architecture(V, layers=1, width=16, heads=2, key_value_heads=2, mlp_width=32)
HEADS = {
    "plain": {},
    "tied": {"tied_head": True},
    "bias": {"head_bias": True},
    "both": dict.fromkeys(("tied_head", "head_bias"), True),
}


def objective_of(name: str, vocab_size: int = V):
    return OBJECTIVES[name](vocab_size, *([linear()] if name == "masked" else []))


def examples() -> Example:
    """Rows with two documents, padding and a prompt."""
    tokens = np.random.default_rng(0).integers(V, size=(BATCH, LENGTH))
    segments = np.repeat([[1] * 10 + [2] * 12 + [0] * 2], BATCH, axis=0)
    prompt_mask = np.broadcast_to(np.arange(LENGTH) < 3, tokens.shape)
    return Example(*map(jnp.asarray, (tokens.astype(np.int32), segments.astype(np.int32), prompt_mask)))


@pytest.mark.few(2)
@pytest.mark.parametrize("chunk", [1, 8, 10, LENGTH])
@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("name", ["ar", "masked"])
def test_chunks_keep_value_and_gradient(name, options, chunk):
    """The reference computes the logits of all positions at once, differentiated by JAX."""
    model, objective = transformer(SMALL._replace(**options), Execution()), objective_of(name)
    params = model.init(jax.random.key(1))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
    view = look(objective, (), jax.random.split(jax.random.key(2), BATCH), examples(), jnp.linspace(0.1, 0.9, BATCH))

    def whole(params):
        hidden, _ = model.hidden(params, view, objective.mask)
        each = objective.token_loss((), model.head(params, hidden), view).sum(axis=1)
        return each.sum(), each

    (total, each), slope = jax.value_and_grad(whole, has_aux=True)(params)
    by_chunks = jax.value_and_grad(lambda params: nats(model, objective, params, (), view, chunk), has_aux=True)
    (chunked_total, chunked_each), chunked_slope = by_chunks(params)
    np.testing.assert_allclose(chunked_total, total, rtol=1e-5)
    np.testing.assert_allclose(chunked_each, each, rtol=1e-5)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * scale), chunked_slope, slope)


def test_nats_per_view_carry_no_gradient():
    """Their sum is the total."""
    model, objective = transformer(SMALL, Execution()), objective_of("ar")
    params = model.init(jax.random.key(1))
    view = look(objective, (), jax.random.split(jax.random.key(2), BATCH), examples(), jnp.zeros(BATCH))
    total, each = nats(model, objective, params, (), view, 8)
    np.testing.assert_allclose(each.sum(), total, rtol=1e-6)
    _, forward = jax.vjp(lambda params: nats(model, objective, params, (), view, 8), params)
    (slope,) = forward((jnp.zeros(()), jnp.ones(BATCH)))
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(slope))


def test_constants_of_views_are_nats():
    """With uniform logits a view has its weight times log V, and its constant."""
    model, objective = transformer(SMALL, Execution()), objective_of("ar")
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(1)))
    view = look(objective, (), jax.random.split(jax.random.key(2), BATCH), examples(), jnp.zeros(BATCH))
    constant = jnp.arange(BATCH, dtype=jnp.float32)
    total, each = nats(model, objective, params, (), view._replace(constant=constant), 8)
    expected = view.weight.sum(axis=1) * np.log(SMALL.vocab_size) + constant
    np.testing.assert_allclose(each, expected, rtol=1e-5)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-5)


@pytest.mark.parametrize(("length", "at_most", "found"), [(24, 10, 8), (24, 100, 24), (23, 22, 1), (2048, 500, 256)])
def test_chunks_divide_the_length(length, at_most, found):
    assert largest_divisor(length, at_most) == found


def test_loss_memory_at_32000_outputs():
    """Memory of the loss and its gradient in chunks of 128 positions, against all 2048 at once."""
    vocab_size, length, width = 32000, 2048, 256
    whole = transformer(Architecture(vocab_size, 1, width, 4, 4, width), Execution())
    params = jax.eval_shape(whole.init, jax.random.key(0))
    ids, reals = jnp.zeros((2, length), jnp.int32), jnp.ones((2, length))
    view = View(ids, ids, reals, reals, ids[..., None], ids[..., None], ids, jnp.zeros(2))

    def temporary(chunk: int) -> int:
        def total(params, hidden):
            head_only = whole._replace(hidden=lambda *_, **__: (hidden, None))
            return nats(head_only, objective_of("ar", vocab_size), params, (), view, chunk)[0]

        hidden = jax.ShapeDtypeStruct((2, length, width), jnp.float32)
        compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(params, hidden).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    unchunked = temporary(length)
    assert unchunked > 2 * length * vocab_size * 4
    assert temporary(128) * 8 < unchunked


def called(jaxpr) -> list:
    """The jaxprs inside the equations of one: loops, calls, rules of differentiation."""
    values = jax.tree.leaves(
        [equation.params for equation in jaxpr.eqns],
        is_leaf=lambda value: isinstance(value, jax.extend.core.ClosedJaxpr | jax.extend.core.Jaxpr),
    )
    inner = [getattr(value, "jaxpr", value) for value in values]
    return [value for value in inner if isinstance(value, jax.extend.core.Jaxpr)]


def most_logits(jaxpr) -> int:
    """Elements of the largest array whose last axis is V, in a jaxpr and in all that it calls."""
    shapes = [getattr(variable.aval, "shape", ()) for equation in jaxpr.eqns for variable in equation.outvars]
    here = [math.prod(shape) for shape in shapes if shape[-1:] == (V,)]
    return max(here + [most_logits(inner) for inner in called(jaxpr)], default=0)


@pytest.mark.parametrize("name", ["ar", "masked"])
def test_step_never_holds_all_logits(name):
    model, objective = transformer(SMALL, Execution()), objective_of(name)
    optimizer = make_optimizer(
        decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )
    params = model.init(jax.random.key(0))
    key = jax.random.key_data(jax.random.key(1))
    state = State(jnp.int32(0), params, (), optimizer.init((params, ())), (), key)
    batch = Batch(examples(), jnp.arange(BATCH))

    def largest(chunk: int) -> int:
        step = make_train_step(model, objective, optimizer, StepOptions(BATCH, loss_chunk=chunk))
        return most_logits(jax.make_jaxpr(step)(state, batch).jaxpr)

    assert largest(LENGTH) == BATCH * LENGTH * V
    assert largest(3) == max(BATCH * 3 * V, SMALL.width * V)
