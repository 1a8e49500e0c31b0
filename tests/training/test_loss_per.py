"""What the trained loss is a mean over, against the formulas of LLaDA and dllm."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdlm_jax.build.described import made
from mdlm_jax.configs.base import get_config
from mdlm_jax.data import Batch, Example
from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.objectives.masked import masked
from mdlm_jax.objectives.unified import unified
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import look
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.step import LOSS_PER, StepOptions, initial_state, make_train_step

V, L, B = 5, 6, 4
PROMPT, END = [1, 3, 0, 2], [6, 5, 2, 6]  # of each row: tokens of its prompt, and where padding begins
ANSWER = [5, 2, 2, 4]  # tokens with a loss


@functools.cache
def network():
    return transformer(Architecture(V, 1, 8, 2, 2, 16, time_conditioning=True, time_width=8), Execution())


def batch() -> Batch:
    tokens = np.random.default_rng(0).integers(0, V, (B, L), np.int32)
    at = np.arange(L)[None]
    segments = (at < np.array(END)[:, None]).astype(np.int32)
    rows = Batch(Example(tokens, segments, at < np.array(PROMPT)[:, None]), np.arange(B, dtype=np.int32))
    return jax.tree.map(jnp.asarray, rows)


def start(objective, **options):
    """(the state before the first step, the step)."""
    optimizer = make_optimizer(
        decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )
    state = initial_state(network(), objective, optimizer, 0.0, jnp.uint32(0), hyperparameters(1e-2, 0.1, 0, 100))
    # far from the first parameters, where logits are almost uniform
    moved = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), state.params
    )
    return state._replace(params=moved), jax.jit(
        make_train_step(network(), objective, optimizer, StepOptions(B, **options))
    )


def trained_loss(objective, state, loss_per):
    """The loss as a formula of the parameters: nats of each row from logits, then the mean."""
    keys, u = noise_of(state.key, state.step, batch().index, B)

    def loss(trainable):
        params, phi = trainable
        view = look(objective, phi, keys, batch().example, u)
        hidden, _ = network().hidden(params, view, objective.mask)
        logits = network().head(params, hidden[:, : view.targets.shape[1]])
        nats = objective.token_loss(phi, logits, view).sum(axis=1) + view.constant
        rows = nats.reshape(B, objective.views)
        extra = jnp.zeros(B)
        if objective.surrogate is not None:
            of_rows = jax.tree.map(lambda field: field.reshape(B, objective.views, *field.shape[1:]), view)
            extra = jax.vmap(objective.surrogate, (None, 0, 0))(phi, rows, of_rows)
        rows = rows.mean(axis=1) + extra
        if loss_per == "token":
            return rows.sum() / sum(ANSWER)
        return (rows / jnp.array(ANSWER)).sum() / B if loss_per == "answer" else rows.sum() / B

    return jax.value_and_grad(loss)((state.params, state.objective_params))


@pytest.mark.few(3)
@pytest.mark.parametrize("loss_per", LOSS_PER)
@pytest.mark.parametrize(
    ("make", "options"),
    [(lambda: masked(V, linear()), {}), (lambda: genmd4(V), {}), (lambda: ar(V), {"microbatches": 2})],
)
def test_trained_loss_by_formula(make, options, loss_per):
    """Its value and its gradient. The reported loss stays in nats per token."""
    objective = make()
    state, step = start(objective, loss_per=loss_per, **options)
    _, metrics = step(state, batch())
    value, gradient = trained_loss(objective, state, loss_per)
    np.testing.assert_allclose(metrics["trained_loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.global_norm(gradient), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], trained_loss(objective, state, "token")[0], rtol=1e-5)
    assert int(metrics["tokens"]) == sum(ANSWER)


@pytest.mark.parametrize(("loss_per", "tokens"), [("token", 1), ("answer", 1), ("sequence", 13 / 4)])
def test_uniform_logits(loss_per, tokens):
    """Every token has ln V nats: 13 answer tokens in 4 rows."""
    state, step = start(ar(V), loss_per=loss_per)
    _, metrics = step(state._replace(params=jax.tree.map(jnp.zeros_like, state.params)), batch())
    np.testing.assert_allclose(metrics["trained_loss"], tokens * math.log(V), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], math.log(V), rtol=1e-6)


def test_rows_count_alike_by_answer():
    """Only one row is not predicted at all: its mean nats count a quarter, by its length 5 of 13."""
    cost = lambda phi, logits, view: view.weight * (view.targets == 4)  # noqa: E731
    tokens = jnp.where(jnp.arange(B)[:, None] == 0, 4, jnp.zeros((B, L), jnp.int32))
    rows = batch()._replace(example=batch().example._replace(tokens=tokens))
    found = {}
    for loss_per in LOSS_PER:
        state, step = start(ar(V)._replace(token_loss=cost), loss_per=loss_per)
        found[loss_per] = float(step(state, rows)[1]["trained_loss"])
    assert found == pytest.approx({"token": 5 / 13, "answer": 1 / 4, "sequence": 5 / 4})


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_token_losses_are_proportional_to_weight(name):
    """A row's share of the trained loss is a factor of its weights."""
    if name == "unified":
        objective = unified(V, 3, 3, {"joint": 1.0}, linear(), linear())
    else:
        config = get_config()
        config.objective.num_steps = 8 if name == "d3pm" else 0
        objective = made(name, OBJECTIVES[name], config, V)
    phi = objective.init(jax.random.key(1))
    keys, u = noise_of(jax.random.key_data(jax.random.key(0)), jnp.int32(0), batch().index, B)
    view = look(objective, phi, keys, batch().example, u)
    logits = jax.random.normal(jax.random.key(2), (*view.targets.shape, V))
    one, other = (objective.token_loss(phi, logits, view._replace(weight=view.weight * c)) for c in (1.0, 0.25))
    np.testing.assert_allclose(0.25 * one, other, rtol=1e-5, atol=1e-7)


def test_unknown_mean_is_refused():
    with pytest.raises(UserError, match="loss_per='row'; accepted: token, answer, sequence"):
        start(ar(V), loss_per="row")
