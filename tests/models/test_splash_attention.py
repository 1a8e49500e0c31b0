"""The TPU kernel, interpreted, is attention: against the plain formula, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.models.attention import allowed, check_backend, einsum_attention
from mdlm_jax.models.splash_attention import TILES, splash_attention
from mdlm_jax.objectives.base import causal, full
from mdlm_jax.objectives.block import block_mask
from mdlm_jax.training.sharding import make_mesh

LENGTH = TILES[-1]
POSITIONS = 2 * LENGTH
MASKS = {"full": lambda: full, "causal": lambda: causal, "blocks": lambda: block_mask(16, LENGTH)}


def inputs(batch: int = 1):
    random = np.random.default_rng(0)
    shapes = [(batch, POSITIONS, 1, 2, 8), *[(batch, POSITIONS, 1, 8)] * 2, (batch, POSITIONS, 1, 2, 8)]
    return [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]


def slopes(attention, q, k, v, weights):
    def total(q, k, v):
        out = attention(q, k, v)
        return (out * weights).sum(), out

    return jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(q, k, v)


def assert_equal(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-6), found, expected)


@pytest.mark.few(2)
@pytest.mark.parametrize("documents", [False, True], ids=["one", "documents"])
@pytest.mark.parametrize("mask", MASKS)
def test_equals_plain_attention(mask, documents):
    """Two heads share keys, and documents end inside a tile."""
    mask = MASKS[mask]()
    segments = (jnp.arange(POSITIONS) % LENGTH // 50)[None] if documents else None
    seen = allowed(mask, jnp.arange(POSITIONS), POSITIONS, segments)
    arguments = inputs()
    assert_equal(
        slopes(lambda q, k, v: splash_attention(q, k, v, mask, segments, interpret=True), *arguments),
        slopes(lambda q, k, v: einsum_attention(q, k, v, mask, seen), *arguments),
    )


def test_equals_plain_attention_over_a_mesh():
    mesh = make_mesh(jax.devices()[:1], data=1, fsdp=1)
    arguments = inputs(batch=2)
    segments = jnp.ones((2, POSITIONS), jnp.int32)
    assert_equal(
        slopes(lambda q, k, v: splash_attention(q, k, v, full, segments, mesh, interpret=True), *arguments),
        slopes(lambda q, k, v: einsum_attention(q, k, v, full, None), *arguments),
    )


@pytest.mark.parametrize(("platform", "positions", "told"), [("gpu", 256, "on a gpu: einsum"), ("tpu", 100, "of 128")])
def test_unsupported_use_is_refused(platform, positions, told):
    with pytest.raises(UserError, match=told):
        check_backend("splash", platform, positions)
    check_backend("splash", "tpu", 256)
    check_backend("einsum", platform, positions)
