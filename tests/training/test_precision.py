"""With bfloat16 compute, what sums many numbers does so in float32: read off the step's own program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Batch, Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.schedules import linear
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.step import StepOptions, initial_state, make_train_step
from tests.training.test_loss import called

V, LENGTH, BATCH = 11, 128, 2
SUMS = {"reduce_sum", "reduce_max", "cumsum", "exp", "log", "rsqrt", "scatter-add", "reduce_precision"}


def equations(jaxpr):
    """Every equation of a jaxpr and of all that it calls."""
    yield from jaxpr.eqns
    for inner in called(jaxpr):
        yield from equations(inner)


def step_of(attention: str, **options):
    """A step of two microbatches, and its jaxpr."""
    objective = OBJECTIVES["masked"](V, linear())
    architecture = Architecture(V, 1, 16, 2, 1, 32, **options)
    model = transformer(architecture, Execution(compute_dtype=jnp.bfloat16, attention=attention))
    optimizer = make_optimizer(
        decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )
    numbers = hyperparameters(1e-3, 0.1, 0, 10)
    state = jax.eval_shape(lambda: initial_state(model, objective, optimizer, 0.0, jnp.uint32(0), numbers))
    tokens = np.zeros((BATCH, LENGTH), np.int32)
    batch = Batch(Example(tokens, tokens + 1, tokens > 0), np.arange(BATCH, dtype=np.int32))
    step = make_train_step(model, objective, optimizer, StepOptions(BATCH, microbatches=2, scored_only=True))
    return step, state, batch


@pytest.mark.parametrize("attention", ["einsum", "blocked", "library"])
def test_norms_softmax_and_loss_sum_in_float32(attention):
    """Products of bfloat16 that sum over keys or over V return float32 too."""
    step, state, batch = step_of(attention, qk_norm=True, time_conditioning=True)
    found = list(equations(jax.make_jaxpr(step)(state, batch).jaxpr))
    sums = [equation for equation in found if equation.primitive.name in SUMS]
    assert {str(equation.primitive) for equation in sums} >= {"reduce_sum", "exp", "rsqrt"}
    halves = [str(equation) for equation in sums if equation.invars[0].aval.dtype == jnp.bfloat16]
    assert not halves
    logits = [
        equation.outvars[0].aval.dtype
        for equation in found
        if equation.primitive.name == "dot_general" and equation.outvars[0].aval.shape[-1:] == (V,)
    ]
    assert jnp.dtype("float32") in logits


def test_gradients_accumulate_in_float32():
    step, state, batch = step_of("einsum")
    jaxpr = jax.make_jaxpr(step)(state, batch).jaxpr
    carried = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]
            inside = getattr(body, "jaxpr", body).outvars  # what is stacked, and not carried, has an axis less there
            pairs = zip(equation.outvars, inside, strict=True)
            carried += [one.aval.dtype for one, other in pairs if one.aval.shape == other.aval.shape and one.aval.ndim]
    assert carried and set(carried) == {jnp.dtype("float32")}
    new, metrics = jax.eval_shape(step, state, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((new.params, new.opt_state[3:], metrics["loss"]))} <= {
        jnp.dtype("float32"),
        jnp.dtype("int32"),
    }
