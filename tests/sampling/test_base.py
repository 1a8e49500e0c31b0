"""Tokens are drawn with their probability, however small."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.sampling.drawing import draw
from tests import run_folders as runs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["logits", "distribution"])
def test_tail_is_drawn_at_its_probability(kind):
    """All of GPT-2's tokens but one share 1% of the mass; noise of JAX's default mode draws them in 0.72% of rows."""
    vocabulary, tail, rows = 50257, 0.01, 20_000
    command = [sys.executable, "-m", "tests.sampling.tail_share", kind, str(rows), str(tail), str(vocabulary)]
    # a thousand million numbers: in a process that compiles for speed
    environment = runs.environment() | {"XLA_FLAGS": ""}
    share = float(subprocess.run(command, env=environment, cwd=runs.ROOT, capture_output=True, check=True).stdout)
    assert abs(share - tail) < 3 * np.sqrt(tail * (1 - tail) / rows)


def test_log_probability_is_at_temperature_one():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]))
    for temperature in (0.0, 0.5, 1.0):
        tokens, log_probability = draw(jax.random.split(jax.random.key(1), 2), logits, jnp.float32(temperature))
        np.testing.assert_allclose(log_probability, logits[jnp.arange(2), tokens], rtol=1e-5)
