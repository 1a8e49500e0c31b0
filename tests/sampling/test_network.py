"""One evaluation of a network as samplers see it."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.sampling.guidance import Weight, readings_without
from mdlm_jax.sampling.network import Network, read
from tests.sampling.toys import V, oracle


@pytest.mark.parametrize(
    ("ramp", "window", "t", "weight"),
    [
        (False, (0.0, 1.0), 0.25, 1.5),
        (True, (0.0, 1.0), 0.25, 1.5 * 0.75),
        (True, (0.0, 1.0), 1.0, 0),
        (True, (0.0, 1.0), 0.0, 1.5),
        (False, (0.25, 0.5), 0.25, 1.5),
        (True, (0.25, 0.5), 0.5, 1.5 * 0.5),
        (False, (0.5, 1.0), 0.25, 0),
        (False, (0.0, 0.125), 0.25, 0),
    ],
)
def test_guidance_matches_its_formula(ramp, window, t, weight):
    """u + (w + 1) (c - u), where a ramp multiplies w by 1 - t, and w is 0 outside the window of times."""
    tokens = jnp.array([[1, V, V], [0, 2, V]])
    network = Network(oracle(), (), tokens)
    without = readings_without(tokens, V, 0, ("all",))
    guided = network._replace(guidance=Weight(jnp.float32(1.5), ramp, *window), without=without)
    found, _ = read(guided, None, tokens, jnp.full(2, t))
    with_prompt, _ = read(network, None, tokens, jnp.full(2, t))
    without, _ = read(network, None, jnp.full_like(tokens, V), jnp.full(2, t))
    expected = without + (weight + 1) * (with_prompt - without)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
