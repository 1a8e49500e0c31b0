"""Attention by blocks or spans of queries is attention: against the plain formula, in value, gradient and cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.models.attention import allowed, attend
from mdlm_jax.models.blocked_attention import BLOCK
from mdlm_jax.objectives.base import causal, full
from mdlm_jax.objectives.block import block_mask


def arrays(*shapes):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.few(8)
@pytest.mark.parametrize("documents", [False, True], ids=["one", "documents"])
@pytest.mark.parametrize("mask", [full, causal])
@pytest.mark.parametrize("length", [5, BLOCK, 2 * BLOCK + 44, 5 * BLOCK, 8 * BLOCK])
def test_equals_plain_attention(length, mask, documents):
    q, k, v, weights = arrays((2, length, 4, 8), (2, length, 2, 8), (2, length, 2, 8), (2, length, 4, 8))
    segments = jnp.broadcast_to(jnp.arange(length) // 100, (2, length)) if documents else None
    seen = allowed(mask, jnp.arange(length), length, segments)

    def slopes(backend):
        def total(q, k, v):
            out = attend(q, k, v, mask, seen, backend)
            return (out * weights).sum(), out

        return jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), slopes("blocked"), slopes("einsum")
    )


@pytest.mark.parametrize("backend", ["blocked", "library"])
@pytest.mark.parametrize("documents", [False, True], ids=["one", "documents"])
def test_equals_plain_attention_under_the_block_mask(backend, documents):
    """The dead tiles of block diffusion are skipped and all others are computed."""
    length = 5 * BLOCK
    mask = block_mask(16, length)
    q, k, v, weights = arrays(*[(1, 2 * length, 2, 8)] * 4)
    segments = (jnp.arange(2 * length) % length // 100)[None] if documents else None
    seen = allowed(mask, jnp.arange(2 * length), 2 * length, segments)

    def slopes(backend):
        def total(q, k, v):
            return (attend(q, k, v, mask, seen, backend) * weights).sum()

        return jax.jit(jax.grad(total, argnums=(0, 1, 2)))(q, k, v)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), slopes(backend), slopes("einsum"))


def test_library_computes_three_eighths_of_block_pairs():
    """The mask allows slightly over a quarter of the pairs.

    Each half has four spans. The noised half computes one square per span and 1 + 2 + 3 + 4 squares of clean keys,
    and the clean half 1 + 2 + 3 + 4: 24 of 64. A full mask computes all pairs.
    """
    length = 8 * BLOCK
    mask, shape = block_mask(16, length), jax.ShapeDtypeStruct((1, 2 * length, 1, 8), jnp.float32)

    def flops(mask):
        seen = jnp.ones((1, 2 * length, 2 * length), bool)
        call = jax.jit(lambda q, k, v: attend(q, k, v, mask, seen, "library"))
        return call.lower(shape, shape, shape).cost_analysis()["flops"]

    np.testing.assert_allclose(flops(mask) / flops(full), 24 / 64, rtol=0.02)


def test_bfloat16_stays_bfloat16():
    """Values and gradients agree with float32."""
    q, k, v, weights = (x.astype(jnp.bfloat16) for x in arrays(*[(2, 4 * BLOCK, 2, 16)] * 4))

    def slopes(backend, *inputs):
        total = jax.grad(lambda *inputs: (attend(*inputs, full, None, backend) * weights).sum(), argnums=(0, 1, 2))
        return jax.jit(total)(*inputs)

    exact = slopes("einsum", *(x.astype(jnp.float32) for x in (q, k, v)))
    for found, expected in zip(slopes("blocked", q, k, v), exact, strict=True):
        assert found.dtype == jnp.bfloat16
        apart = jnp.linalg.norm(found.astype(jnp.float32) - expected) / jnp.linalg.norm(expected)
        assert apart < 0.01  # a bfloat16 has 8 bits


def test_cache_may_be_longer_than_the_queries():
    q, k, v = arrays((1, 3, 4, 8), (1, 9, 2, 8), (1, 9, 2, 8))
    seen = allowed(causal, 4 + jnp.arange(3), 9, None)
    blocked, plain = (attend(q, k, v, causal, seen, backend) for backend in ("blocked", "einsum"))
    np.testing.assert_allclose(blocked, plain, rtol=1e-5, atol=1e-6)


def test_memory_is_below_plain_attention():
    shape = jax.ShapeDtypeStruct((1, 2048, 2, 16), jnp.float32)

    def temporary(backend):
        slope = jax.grad(lambda q, k, v: attend(q, k, v, full, None, backend).sum(), argnums=(0, 1, 2))
        return jax.jit(slope).lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes

    assert temporary("blocked") * 4 < temporary("einsum")
