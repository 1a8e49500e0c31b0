"""The nats of each task of a batch, in the metrics of a train step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Batch, Example
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives import any_order, unified
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import look, nats
from tests.training.test_step import V, network, start

ROWS = 8  # evenly spread noise levels give each task its share of them
SHARES = {"joint": 0.5, "text_given_image": 0.25, "image": 0.25}


def batch():
    random = np.random.default_rng(1)
    tokens = np.concatenate([random.integers(0, 2, (ROWS, 2)), random.integers(2, V, (ROWS, 4))], axis=1).astype(
        np.int32
    )
    return Batch(Example(tokens, np.ones_like(tokens), np.zeros(tokens.shape, bool)), np.arange(ROWS, dtype=np.int32))


@pytest.mark.parametrize("options", [{}, {"microbatches": 2}, {"loss_per": "answer"}])
def test_nats_of_each_task(monkeypatch, options):
    """They are the means over the rows of the task, and all rows together have the reported loss."""
    monkeypatch.setattr("tests.training.test_step.B", ROWS)
    objective = unified(V, 2, 2, SHARES, linear(), linear())
    state, step = start(objective, **options)
    keys, u = noise_of(state.key, state.step, jnp.arange(ROWS), ROWS)
    view = look(objective, (), keys, batch().example, u)
    _, each = nats(network(), objective, state.params, (), view, 6)
    task = np.asarray(jax.vmap(objective.task_of)(u))
    _, metrics = step(state, batch())
    for number, name in enumerate(SHARES):
        assert (task == number).sum() == SHARES[name] * ROWS
        known = np.asarray(each)[task == number].mean()
        np.testing.assert_allclose(metrics[f"{name}_nats_per_row"], known, rtol=1e-5)
    total = sum(metrics[f"{name}_nats_per_row"] * share * ROWS for name, share in SHARES.items())
    np.testing.assert_allclose(metrics["loss"] * metrics["tokens"], total, rtol=1e-5)


def test_a_task_without_rows(monkeypatch):
    """NaN, which metrics.jsonl writes as null; an objective without tasks has no such metrics."""
    monkeypatch.setattr("tests.training.test_step.B", ROWS)
    state, step = start(unified(V, 2, 2, {"joint": 1 - 1e-9, "text": 1e-9}, linear(), linear()))
    _, metrics = step(state, batch())
    assert np.isnan(metrics["text_nats_per_row"]) and np.isfinite(metrics["joint_nats_per_row"])
    state, step = start(any_order(V))
    assert not [name for name in step(state, batch())[1] if name.endswith("_nats_per_row")]
