"""`ar` on rows of two text and two image tokens, in both orders: exact likelihoods, by summation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layers import Execution
from mdlm_jax.models.transformer import transformer
from mdlm_jax.objectives.ar_of_modalities import ANSWERS, ar_of_modalities, likelihoods_of_tasks
from mdlm_jax.objectives.modality_tasks import TASKS, row_of_task
from mdlm_jax.training.loss import look, nats

TEXT, V, L = 2, 5, 4  # ids 0 and 1 are text, 2 to 4 image
COUNT = 36  # rows that there are


def every_row():
    rows = np.array(list(itertools.product([0, 1], [0, 1], [2, 3, 4], [2, 3, 4])), np.int32)
    return Example(rows, np.ones_like(rows), np.zeros(rows.shape, bool))


def network():
    model = transformer(Architecture(V, 2, 8, 2, 2, 16, learned_positions=L), Execution())
    return model, jax.tree.map(lambda leaf: 2 * leaf, jax.jit(model.init)(jax.random.key(0)))


def nats_of(objective, rows, u=0.25):
    model, params = network()
    view = look(objective, (), jax.random.split(jax.random.key(1), COUNT), rows, jnp.full(COUNT, u))
    return np.asarray(nats(model, objective, params, (), view, L)[1], np.float64)


@pytest.mark.parametrize("order", ANSWERS)
def test_likelihoods_sum_to_one(order):
    """The joint over all rows, a marginal over its own tokens, a conditional over its own for each of the other's; and
    joint = marginal x conditional."""
    found = likelihoods_of_tasks(V, TEXT, 2, order)
    probability = {
        task: np.exp(-nats_of(objective, row_of_task(every_row(), TASKS[task], TEXT, V))).reshape(2, 2, 3, 3)
        for task, objective in found.items()
    }
    assert probability.keys() == set(ANSWERS[order])
    joint, marginal, conditional = (probability[task] for task in ANSWERS[order])
    own, other = ((0, 1), (2, 3)) if order == "text_first" else ((2, 3), (0, 1))
    assert joint.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(marginal.sum(axis=own), 1, rtol=1e-5)
    np.testing.assert_allclose(np.ptp(marginal, axis=other), 0, atol=1e-7)
    np.testing.assert_allclose(conditional.sum(axis=other), 1, rtol=1e-5)
    np.testing.assert_allclose(joint, marginal * conditional, rtol=1e-4)
    assert np.ptp(conditional, axis=own).max() > 1e-3


def test_flipped_rows_have_both_orders():
    """Half of the rows of a batch are read image first; the network is the same, and text first is reported."""
    first, second = (nats_of(ar_of_modalities(V, TEXT, 2, order), every_row()) for order in ANSWERS)
    flipped = ar_of_modalities(V, TEXT, 2, "flipped")
    np.testing.assert_allclose(nats_of(flipped, every_row(), u=0.75), first, rtol=1e-6)
    np.testing.assert_allclose(nats_of(flipped, every_row(), u=0.25), second, rtol=1e-6)
    assert flipped.bound == "upper" and flipped.evaluate.bound == "exact"
    np.testing.assert_allclose(nats_of(flipped.evaluate, every_row()), first, rtol=1e-6)
    assert likelihoods_of_tasks(V, TEXT, 2, "flipped").keys() == TASKS.keys()


def test_no_token_sees_itself_or_what_comes_later():
    """Other tokens after a position in its order leave its nats as they are."""
    model, params = network()
    for order, read in (("text_first", [0, 1, 2, 3]), ("image_first", [2, 3, 0, 1])):
        objective = ar_of_modalities(V, TEXT, 2, order)

        def hidden(row, objective=objective):
            example = jax.tree.map(lambda field: jnp.asarray(field[row]), every_row())
            view = objective.view((), jax.random.key(0), example, 0.25)
            found = model.hidden(params, view, objective.mask)[0][0]
            return np.asarray(found[view.read_at[0]])

        before, after = hidden(0), hidden(COUNT - 1)
        assert not np.allclose(before[read[1]], after[read[1]])
        np.testing.assert_allclose(before[read[0]], after[read[0]], atol=1e-6)
