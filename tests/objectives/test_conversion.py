"""What makes a causal network a masked one: attention that opens, shifted rows, weights by the visible context."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.build.objective import objective_label
from mdlm_jax.config import load_config
from mdlm_jax.data import Batch, Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives.annealed import annealed, share_at
from mdlm_jax.objectives.base import causal, full
from mdlm_jax.objectives.context_weights import context_weights
from mdlm_jax.objectives.masked import masked_plain
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import look, nats
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.step import StepOptions, initial_state, make_train_step

V, L, B = 7, 16, 4


@functools.cache
def network(attention="einsum"):
    return transformer(Architecture(V, 1, 16, 2, 1, 24), Execution(attention=attention))


@functools.cache
def parameters():
    return jax.jit(network().init)(jax.random.key(0))


@functools.cache
def optimizer():
    return make_optimizer(
        decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )


def examples():
    tokens = np.random.default_rng(0).integers(0, V, (B, L), np.int32)
    segments = np.where(np.arange(L) < 10, 1, 2) * np.ones((B, 1), np.int32)
    return Example(tokens, segments, np.zeros((B, L), bool))


def direct(visible, segments, rate):
    """The published sum, term by term."""
    return [
        sum(
            0.5 * rate * (1 - rate) ** (abs(i - n) - 1)
            for i in range(len(visible))
            if i != n and visible[i] and segments[i] == segments[n]
        )
        for n in range(len(visible))
    ]


def test_context_weights_by_hand():
    """At distances 1 and 2 the rate 0.3 gives 0.3 and 0.21, and half their sum is 0.255."""
    found = context_weights(jnp.array([1, 0, 0, 1], bool), jnp.ones(4, jnp.int32), 0.3)
    np.testing.assert_allclose(found, [0.5 * 0.3 * 0.49, 0.255, 0.255, 0.5 * 0.3 * 0.49], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.3, 1.0])
def test_context_weights_are_the_published_sum(rate):
    random = np.random.default_rng(1)
    for _ in range(20):
        visible, segments = random.random(23) < 0.5, np.sort(random.integers(1, 4, 23))
        found = context_weights(jnp.asarray(visible), jnp.asarray(segments), rate)
        np.testing.assert_allclose(found, direct(visible, segments, rate), atol=1e-6)


@pytest.mark.parametrize("complementary", [False, True])
def test_masked_tokens_are_weighted_by_their_context(complementary):
    """Prompts are visible, padding is not."""
    example = Example(jnp.arange(L, dtype=jnp.int32) % V, jnp.where(jnp.arange(L) < 13, 1, 0), jnp.arange(L) < 2)
    plain, weighted = (
        masked_plain(V, linear(), complementary, rate).view((), jax.random.key(2), example, jnp.float32(0.6))
        for rate in (0.0, 0.3)
    )
    np.testing.assert_array_equal(plain.tokens, weighted.tokens)
    for tokens, before, after in zip(plain.tokens, plain.weight, weighted.weight, strict=True):
        visible = (np.asarray(tokens) != V) & (np.arange(L) < 13)
        np.testing.assert_allclose(after, before * np.array(direct(visible, np.ones(L), 0.3)), atol=1e-6)
    assert np.asarray(weighted.weight[:, :2] == 0).all() and np.asarray(weighted.weight).any()


@functools.cache
def loss_of(share=None, attention="einsum", mask=full):
    """The nats of each row; with a share where attention is annealed."""
    plain = masked_plain(V, linear())._replace(mask=mask)
    objective = plain if share is None else annealed(plain, share)

    @jax.jit
    def of_rows(params, keys, u):
        view = look(objective, (), keys, examples(), u)
        return nats(network(attention), objective, params, (), view, 128)[1]

    return np.asarray(of_rows(parameters(), jax.random.split(jax.random.key(3), B), jnp.linspace(0.1, 0.9, B)))


@pytest.mark.parametrize("attention", ["einsum", "blocked", pytest.param("library", marks=pytest.mark.slow)])
def test_attention_opens_from_causal_to_full(attention):
    """A share of 0 is causal attention and a share of 1 full attention, inside documents, with every kernel."""
    np.testing.assert_allclose(loss_of(0.0, attention), loss_of(mask=causal), rtol=1e-5)
    np.testing.assert_allclose(loss_of(1.0, attention), loss_of(), rtol=1e-5)
    np.testing.assert_allclose(loss_of(0.5, attention), loss_of(0.5), rtol=1e-5)
    assert (np.abs(loss_of(0.5) - loss_of()) > 1e-4).all()


def test_each_later_position_is_opened_with_the_share():
    drawn = annealed(masked_plain(V, linear()), 0.3)
    keys = jax.random.split(jax.random.key(4), 400)
    example = jax.tree.map(lambda field: jnp.asarray(field[0]), examples())
    opened = np.asarray(jax.vmap(lambda key: drawn.view((), key, example, jnp.float32(0.5)).opened)(keys))[:, 0]
    later = np.triu(np.ones((L, L), bool), 1)
    assert opened[:, ~later].all()
    shares = opened[:, later].mean(axis=0)
    assert abs(shares.mean() - 0.3) < 4 * np.sqrt(0.21 / opened[:, later].size)
    assert (abs(shares - 0.3) < 5 * np.sqrt(0.21 / 400)).all()


def test_share_grows_by_steps():
    np.testing.assert_allclose([share_at(step, 4) for step in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])


def test_a_step_of_training_anneals():
    """The loss of step 0 of very many is that of causal attention, with the noise of that step."""
    objective, index = masked_plain(V, linear()), np.arange(B, dtype=np.int32)
    numbers = hyperparameters(1e-2, 0.1, 0, 9)
    made = partial(initial_state, network(), objective, optimizer(), 0.0)
    state = jax.jit(made)(jnp.uint32(0), numbers)
    step = jax.jit(make_train_step(network(), objective, optimizer(), StepOptions(B, anneal_steps=10**9)))
    keys, u = noise_of(state.key, jnp.int32(0), jnp.asarray(index), B)
    view = look(objective, (), keys, examples(), u)
    causally = jax.jit(lambda params: nats(network(), objective._replace(mask=causal), params, (), view, 128)[1])
    each = causally(state.params)
    loss = step(state, Batch(examples(), index))[1]["loss"]
    np.testing.assert_allclose(loss, each.sum() / (B * L), rtol=1e-5)


def test_labels_tell_the_recipes_apart():
    given = ["data.prompt_tokens=1", "objective.shift=True"]
    labels = [
        objective_label(load_config("base", [f"--config.{key}" for key in (*given, *keys)]))
        for keys in (["objective.anneal_steps=5"], ["objective.name=masked_plain", "objective.context_rate=0.3"])
    ]
    assert labels == ["masked-shift-annealed", "masked_plain-context-shift"]
