"""The likelihood of decoders of a fixed order and of a chosen one, by enumeration of all texts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.evaluation.confident import confident_nats
from mdlm_jax.evaluation.orders import left_to_right, order_nats
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling.network import reading

V, L = 3, 3


def all_texts():
    return np.array(list(itertools.product(range(V), repeat=L)), np.int32)


def example(tokens, prompt=()) -> Example:
    prompt_mask = np.broadcast_to(np.isin(np.arange(L), prompt), tokens.shape)
    return Example(tokens, np.ones_like(tokens), prompt_mask)


@pytest.fixture(scope="module")
def trained():
    """(a network far from uniform, its parameters, its table: log p of each token at each position, by masked row)"""
    model = transformer(Architecture(V, 1, 8, 2, 2, 16), Execution())
    params = jax.tree.map(lambda leaf: 2 * leaf, jax.jit(model.init)(jax.random.key(0)))
    states = jnp.array(list(itertools.product(range(V + 1), repeat=L)))
    positions = jnp.broadcast_to(jnp.arange(L)[:, None], (*states.shape, 1))
    view = reading(states, positions, positions, jnp.zeros(len(states)))
    logs = jax.nn.log_softmax(model.head(params, model.hidden(params, view, full)[0]))
    return model, params, np.asarray(logs, np.float64).reshape((V + 1,) * L + (L, V))


def decoded(table, text, shown, choose) -> tuple[float, list[int]]:
    """(-log p of the tokens that are not shown, their order), with the position that `choose` takes at each step."""
    row, nats, order = np.where(np.isin(np.arange(L), shown), text, V), 0.0, []
    while (masked := np.flatnonzero(row == V)).size:
        logs = table[tuple(row)]
        position = choose(masked, logs)
        nats, row[position] = nats - logs[position, text[position]], text[position]
        order.append(int(position))
    return nats, order


def first(masked, logs):
    return masked[0]


def surest(masked, logs):
    return masked[logs[masked].max(axis=1).argmax()]


@pytest.mark.parametrize("shown", [[], [1]])
def test_left_to_right(trained, shown):
    model, params, table = trained
    found = order_nats(model, params, example(all_texts(), shown), orders=1, batch_size=32, ranks=left_to_right)[:, 0]
    exact = [decoded(table, text, shown, first)[0] for text in all_texts()]
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    assert np.exp(-found).sum() == pytest.approx(V ** len(shown), rel=1e-5)


@pytest.mark.parametrize("shown", [[], [1]])
def test_most_confident_first(trained, shown):
    """The order depends on the text, and the probabilities of all texts still sum to one."""
    model, params, table = trained
    found = confident_nats(model, params, example(all_texts(), shown), batch_size=10, chunk=2)
    exact, orders = zip(*(decoded(table, text, shown, surest) for text in all_texts()), strict=True)
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    assert np.exp(-found).sum() == pytest.approx(V ** len(shown), rel=1e-5)
    assert shown or len(set(map(tuple, orders))) > 1


def test_padding_has_no_likelihood(trained):
    model, params, _ = trained
    padded = example(all_texts()[5:6])._replace(segments=np.array([[1, 1, 0]], np.int32))
    short = jax.tree.map(lambda field: field[:, :2], padded)
    found, exact = (confident_nats(model, params, rows, batch_size=1, chunk=4) for rows in (padded, short))
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_positions_that_predict_the_next_token(trained):
    """Dream's kind: the output of a position is that of the position after it. The first token is given."""
    model, params, _ = trained

    def hidden(params, view, mask, **options):
        found, cache = model.hidden(params, view, mask, **options)
        return jnp.roll(found, -1, axis=1), cache

    shifted, rows = model._replace(hidden=hidden), example(all_texts(), prompt=[0])
    for nats_of, options in ((order_nats, {"orders": 2}), (confident_nats, {"chunk": 3})):
        plain = nats_of(model, params, rows, batch_size=32, **options)
        found = nats_of(shifted, params, rows, batch_size=32, shift=True, **options)
        np.testing.assert_allclose(found, plain, rtol=1e-5)


@pytest.mark.parametrize("choose", [first, surest])
def test_guidance(trained, choose):
    """By the table of u + (1 + w)(c - u), where u is read with the shown token masked."""
    (model, params, table), rows, weight = trained, example(all_texts(), prompt=[1]), 0.7
    if choose is first:
        options = {"orders": 1, "ranks": left_to_right}
        found = order_nats(model, params, rows, batch_size=32, guidance=weight, **options)[:, 0]
    else:
        found = confident_nats(model, params, rows, batch_size=10, chunk=2, guidance=weight)
    mixed = (1 + weight) * table - weight * table[:, V:]
    mixed = mixed - np.log(np.exp(mixed).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(found, [decoded(mixed, text, [1], choose)[0] for text in all_texts()], rtol=1e-5)
