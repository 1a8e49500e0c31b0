"""One evaluation of a network as samplers see it."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.sampling.network import Network, read
from tests.sampling.toys import V, oracle


@pytest.mark.parametrize(("ramp", "t"), [(False, 0.25), (True, 0.25), (True, 1.0), (True, 0.0)])
def test_guidance_matches_its_formula(ramp, t):
    """u + (w + 1) (c - u), where a ramp multiplies w by 1 - t."""
    tokens, weight = jnp.array([[1, V, V], [0, 2, V]]), 1.5
    network = Network(oracle(), (), tokens)
    guided = network._replace(guidance=jnp.float32(weight), ramp=ramp, prompt=tokens != V)
    found, _ = read(guided, None, tokens, jnp.full(2, t))
    with_prompt, _ = read(network, None, tokens, jnp.full(2, t))
    without, _ = read(network, None, jnp.full_like(tokens, V), jnp.full(2, t))
    expected = without + (weight * (1 - t if ramp else 1) + 1) * (with_prompt - without)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
