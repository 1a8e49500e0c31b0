"""The rule for a spike, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.training.spikes import LEAST, WINDOW, is_spike, no_history, remember


def history_of(losses) -> jax.Array:
    step = lambda history, numbered: (remember(history, *numbered), None)  # noqa: E731
    steps = (jnp.arange(len(losses)), jnp.asarray(losses, jnp.float32))
    return jax.lax.scan(step, no_history(), steps)[0]


@pytest.mark.parametrize("count", [LEAST, 500, WINDOW, WINDOW + 300])
def test_spike_threshold_by_formula(count):
    """A spike is more than 7 standard deviations above the mean of the last losses."""
    losses = np.random.default_rng(0).normal(2, 0.1, count)
    last = losses[-WINDOW:]
    limit = last.mean() + 7 * last.std()
    history = history_of(losses)
    assert bool(is_spike(history, jnp.float32(limit + 1e-3), 7.0))
    assert not bool(is_spike(history, jnp.float32(limit - 1e-3), 7.0))


def test_too_few_losses_make_no_spike():
    assert not bool(is_spike(history_of(np.linspace(1, 2, LEAST - 1)), jnp.float32(1e9), 7.0))


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_non_finite_losses_are_not_remembered(loss):
    np.testing.assert_array_equal(history_of([1.0, loss, 3.0])[:4], [1.0, np.nan, 3.0, np.nan])


def test_persistent_loss_soon_is_no_spike():
    """A skipped spike is remembered, so the steps resume."""
    losses = np.random.default_rng(0).normal(2, 0.01, WINDOW)
    assert bool(is_spike(history_of(losses), jnp.float32(3), 7.0))
    assert not bool(is_spike(history_of([*losses, *[3.0] * 21]), jnp.float32(3), 7.0))
