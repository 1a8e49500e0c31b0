"""One train step against its formulas."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Batch, Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.step import StepOptions, initial_state, make_train_step

V, L, B = 5, 6, 4


@functools.cache
def network():
    return transformer(Architecture(V, 1, 8, 2, 2, 16), Execution())


@functools.cache
def optimizer():
    return make_optimizer(
        decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )


def batch(prompt: int = 0) -> Batch:
    tokens = np.random.default_rng(0).integers(0, V, (B, L), np.int32)
    given = np.tile(np.arange(L) < prompt, (B, 1))
    return Batch(Example(tokens, np.ones_like(tokens), given), np.arange(B, dtype=np.int32))


def start(objective, **options):
    """(the state before the first step, the step)."""
    options = StepOptions(B, **options)
    numbers = hyperparameters(1e-2, 0.1, 0, 100)
    history = options.spike_deviations > 0
    state = initial_state(network(), objective, optimizer(), options.ema_decay, jnp.uint32(0), numbers, history=history)
    return state, jax.jit(make_train_step(network(), objective, optimizer(), options))


@pytest.mark.parametrize("prompt", [0, 2, 5])
def test_prompt_tokens_do_not_divide_the_loss(prompt):
    """With uniform logits every token with a loss has ln V nats, for any prompt length."""
    state, step = start(ar(V))
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    _, metrics = step(state, batch(prompt))
    assert int(metrics["tokens"]) == B * (L - prompt)
    np.testing.assert_allclose(metrics["loss"], math.log(V), rtol=1e-6)


def test_loss_is_the_mean_over_views():
    """Two equal views have the loss and the gradient of one."""
    one = ar(V)

    def twice(*given):
        return jax.tree.map(lambda field: jnp.concatenate([field, field]), one.view(*given))

    (_, single), (_, double) = (
        step(state, batch()) for state, step in (start(one), start(one._replace(view=twice, views=2)))
    )
    for name in ("loss", "trained_loss", "gradient_norm"):
        np.testing.assert_allclose(double[name], single[name], rtol=1e-5)


def test_weight_average_by_formula():
    """e' = d e + (1 - d) w with d = min(decay, (1 + n) / (10 + n)) at step n, counted from 1, as in RADD."""
    decay = 0.2
    state, step = start(ar(V), ema_decay=decay)
    expected = jax.tree.map(np.float64, state.params)
    for n in range(1, 6):
        state, _ = step(state, batch())
        d = min(decay, (1 + n) / (10 + n))
        expected = jax.tree.map(lambda old, new: d * old + (1 - d) * np.float64(new), expected, state.params)  # noqa: B023
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7), state.ema, expected)


def steep():
    """The loss of `ar` plus sqrt(phi), at phi = 0, whose gradient is infinite."""
    surrogate = lambda phi, nats, view: jnp.sqrt(phi["phi"])  # noqa: E731
    return ar(V)._replace(init=lambda key: {"phi": jnp.float32(0)}, surrogate=surrogate)


def test_infinite_gradient_is_bad():
    """The loss is finite."""
    state, step = start(steep())
    _, metrics = step(state, batch())
    assert math.isfinite(metrics["loss"]) and not math.isfinite(metrics["gradient_norm"]) and metrics["bad"]
    state, step = start(ar(V))
    assert not step(state, batch())[1]["bad"]


def test_skipped_step_only_advances():
    state, step = start(steep(), skip_bad=True, ema_decay=0.5, spike_deviations=7.0)
    after, metrics = step(state, batch())
    assert metrics["bad"] and int(after.step) == int(state.step) + 1
    kept = ("params", "objective_params", "opt_state", "ema", "key")
    for name in kept:
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(state, name))
    assert float(after.history[0]) == float(metrics["loss"])  # it is remembered
