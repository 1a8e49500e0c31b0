"""The gradient noise scale, against the enumeration of all batches and the gradients of microbatches."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.runs.metrics import GROUPS
from mdlm_jax.runs.reporting import noise_scales
from mdlm_jax.training.gradient_noise import gradient_noise
from mdlm_jax.training.step import StepOptions, make_train_step
from tests.runs.here import train_here
from tests.training.test_step import B, V, batch, network, optimizer, start

ROWS = ((1.0, 0.5), (-0.5, 2.0), (0.25, -1.0))  # the gradients of three rows, drawn with equal probability


@pytest.mark.parametrize("num_parts", [2, 4])
def test_estimates_are_unbiased(num_parts):
    """Their means over all 3^4 batches are the squared norm of the mean gradient and the trace of the covariance."""
    rows, found = np.array(ROWS), []
    for chosen in itertools.product(range(3), repeat=4):
        parts = rows[list(chosen)].reshape(num_parts, -1, 2).mean(axis=1)
        found.append(gradient_noise((parts**2).sum(axis=1).mean(), (parts.mean(axis=0) ** 2).sum(), num_parts, 4))
    squared_norm, variance = np.mean(found, axis=0)
    np.testing.assert_allclose(squared_norm, (rows.mean(axis=0) ** 2).sum(), rtol=1e-12)
    np.testing.assert_allclose(variance, np.trace(np.cov(rows.T, bias=True)), rtol=1e-12)


@pytest.mark.parametrize("num_parts", [2, 4])
def test_step_reports_its_microbatches(num_parts):
    """A microbatch takes every n-th row; its gradient is that of a step on these rows alone."""
    state, step = start(ar(V), microbatches=num_parts)
    squares = []
    for part in range(num_parts):
        rows = jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf)[part::num_parts], batch())
        _, alone = start(ar(V))
        squares.append(float(alone(state, rows)[1]["gradient_norm"]) ** 2)
    _, metrics = step(state, batch())
    expected = gradient_noise(np.mean(squares), float(metrics["gradient_norm"]) ** 2, num_parts, B)
    np.testing.assert_allclose(metrics["gradient_squared_norm"], expected.squared_norm, rtol=1e-4)
    np.testing.assert_allclose(metrics["gradient_variance"], expected.variance, rtol=1e-4)


def test_devices_are_parts_too():
    """Two devices with two microbatches each have the four parts of one device with four."""
    state, step = start(ar(V), microbatches=4)
    apart = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)[0::2], jnp.asarray(leaf)[1::2]]), batch())
    options = StepOptions(B, microbatches=2)
    of_device = make_train_step(network(), ar(V), optimizer(), options, "devices")
    _, found = jax.jit(jax.vmap(of_device, (None, 0), axis_name="devices"))(state, apart)
    _, expected = step(state, batch())
    for name in expected:
        np.testing.assert_allclose(found[name][0], expected[name], rtol=1e-4)


def test_one_part_reports_nothing():
    state, step = start(ar(V))
    assert "gradient_variance" not in step(state, batch())[1]


def test_scale_is_a_ratio_of_means():
    scales = noise_scales()
    next(scales)
    assert math.isnan(scales.send((-1.0, 4.0))), "noise alone"
    assert scales.send((3.0, 8.0)) == 6.0  # 12 / 2
    assert scales.send((math.inf, 1.0)) == 6.0, "a bad step does not count"


def test_logged_under_one_group(tmp_path):
    """In metrics.jsonl where the batch has parts; TensorBoard groups by the part before the slash."""
    train_here(tmp_path / "run", steps=3, objective__name="ar", train__microbatches=4)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    names = ("gradient_squared_norm", "gradient_variance", "gradient_noise_scale")
    squares, variances = (np.array([line[name] for line in lines[:3]]) for name in names[:2])
    for number, line in enumerate(lines[:3], 1):
        ratio = variances[:number].sum() / squares[:number].sum()
        assert line["gradient_noise_scale"] == (pytest.approx(ratio) if squares[:number].sum() > 0 else None)
    assert {GROUPS[name].partition("/")[0] for name in names} == {"gradient_noise"}
