"""Attention: who may look at whom, and the backends that compute it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.models.blocked_attention import blocked_attention
from mdlm_jax.objectives.base import MaskFn, causal, full


def rotate(x: Float[Array, "B N H d"], positions: Int[Array, "B N P"], base: float) -> Float[Array, "B N H d"]:
    """Rotary embedding (arXiv 2104.09864), half-split, in float32; P coordinates share the head's width."""
    half, coordinates = x.shape[-1] // 2, positions.shape[-1]
    per_coordinate = half // coordinates
    frequency = base ** (-jnp.arange(per_coordinate) / per_coordinate)
    angle = (positions[..., None] * frequency).reshape(*positions.shape[:2], 1, half)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x, 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def allowed(mask: MaskFn, queries: Array, num_keys: int, segments: Array | None) -> Bool[Array, "#B N M"] | None:
    """What each query place may see, or None where that is everything. Only whole views carry segments."""
    seen = None if mask is full else mask(queries[:, None], jnp.arange(num_keys)[None, :])[None]
    if segments is None:
        return seen
    same = segments[:, :, None] == segments[:, None, :]
    return same if seen is None else same & seen


def einsum_attention(q, k, v, mask: MaskFn, seen: Array | None):
    """All scores at once, in float32: the plain formula."""
    batch, num_queries, groups, per_group, width = q.shape
    # heads before places, and those of a group as one: products over leading axes need no copies of the scores
    rows = jnp.moveaxis(q * width**-0.5, 1, 3).reshape(batch, groups, -1, width)
    keys, values = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
    scores = jnp.einsum("bgrd,bgmd->bgrm", rows, keys, preferred_element_type=jnp.float32)
    if seen is not None:
        apart = scores.reshape(batch, groups, per_group, num_queries, -1)
        scores = jnp.where(seen[:, None, None], apart, jnp.finfo(jnp.float32).min).reshape(scores.shape)
    mixed = jnp.einsum("bgrm,bgmd->bgrd", jax.nn.softmax(scores, axis=-1).astype(v.dtype), values)
    return jnp.moveaxis(mixed.reshape(batch, groups, per_group, num_queries, width), 3, 1)


def library_attention(q, k, v, mask: MaskFn, seen: Array | None):
    """`jax.nn.dot_product_attention`: cuDNN's flash kernel on a GPU in half precision, XLA's formula elsewhere."""
    batch, num_queries, groups, per_group, width = q.shape
    # one mask for several rows has no segments in it: the kernel then needs no mask, only its name
    alone = mask is causal and num_queries == k.shape[1] and seen.shape[0] < batch
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    out = jax.nn.dot_product_attention(
        q.reshape(batch, num_queries, groups * per_group, width),
        k,
        v,
        mask=None if alone or seen is None else seen[:, None],
        is_causal=alone,
        implementation="cudnn" if half and jax.default_backend() == "gpu" else None,
    )
    return out.reshape(q.shape)


BACKENDS = {"einsum": einsum_attention, "library": library_attention, "blocked": blocked_attention}


def attend(
    q: Float[Array, "B N H d"],
    k: Float[Array, "B M G d"],
    v: Float[Array, "B M G d"],
    mask: MaskFn,
    seen: Bool[Array, "#B N M"] | None,
    backend: str,
) -> Float[Array, "B N H d"]:
    """softmax(q k^T / sqrt(d)) v over the keys that `seen` allows; H query heads in G groups."""
    batch, num_queries, heads, width = q.shape
    grouped = q.reshape(batch, num_queries, k.shape[2], heads // k.shape[2], width)
    return BACKENDS[backend](grouped, k, v, mask, seen).reshape(q.shape)
