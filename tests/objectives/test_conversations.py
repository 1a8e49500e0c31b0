"""Rows of conversations under objectives: prompts are never noised or scored, and packed rows do not mix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.data.chat_rows import PADDINGS, rows_of_chats
from mdlm_jax.data.conversations import Conversation
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.autoregressive import ar, ar_without_start
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.masked import masked
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import look, nats

V, L = 20, 16


def conversations():
    """Three, that fit into one row of 16 tokens; the first has two answers."""
    generator = np.random.default_rng(0)
    answered = ([0, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1])
    return [Conversation(generator.integers(0, V, len(which)), np.array(which, bool), 1) for which in answered]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [0, 4], ids=["rows", "blocks"])
def test_prompts_are_never_noised(padding, size):
    rows = rows_of_chats(conversations(), L, padding, 7)
    objective = masked(V, linear())
    objective = block(objective, size, L) if size else objective
    index = np.arange(100) % len(rows.tokens)
    many = Example(*(jnp.asarray(field[index]) for field in rows))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(100))
    view = look(objective, (), keys, many, jnp.arange(100) / 100)
    noised, weight = np.asarray(view.tokens[:, :L]), np.asarray(view.weight)
    scored = (rows.segments > 0)[index] & ~rows.prompt_mask[index]
    np.testing.assert_array_equal(noised[~scored], rows.tokens[index][~scored])
    assert (weight[~scored] == 0).all()
    assert (noised[scored] == V).any(axis=0).all() and (weight > 0)[scored].any()
    assert ((weight > 0) <= (noised == V)).all()


def nats_of(objective, rows):
    model = transformer(Architecture(V, layers=2, width=16, heads=2, key_value_heads=2, mlp_width=16), Execution())
    params, count = model.init(jax.random.key(3)), len(rows.tokens)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(count))
    view = look(objective, (), keys, Example(*map(jnp.asarray, rows)), jnp.zeros(count))
    return float(nats(model, objective, params, (), view, L)[0])


@pytest.mark.parametrize("objective", [ar, ar_without_start])
def test_packed_conversations_have_the_nats_that_they_have_alone(objective):
    """To 1e-5: rotary positions are relative."""
    packed, alone = (rows_of_chats(conversations(), L, padding, 7) for padding in ("packed", "unread"))
    assert (len(packed.tokens), len(alone.tokens)) == (1, 3)
    assert nats_of(objective(V), packed) == pytest.approx(nats_of(objective(V), alone), rel=1e-5)
