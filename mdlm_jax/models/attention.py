"""Attention: which positions attend to which, and the backends that compute it.

Backends should not compute pairs that the mask forbids. `blocked` and `library` divide the queries into spans and give
each the keys that any of its queries may attend to. Block diffusion has 4 L^2 pairs: these backends compute 1.5 L^2,
and L^2 are needed. Two kernel calls, one for the block and one for the clean prefix, would come closer to L^2. But to
merge them takes the log-sum-exp of each, which has no gradient in JAX's kernels. `splash` skips single tiles.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Real

from mdlm_jax.errors import UserError
from mdlm_jax.models.blocked_attention import blocked_attention, pick, spans_of
from mdlm_jax.models.rope_scaling import scaled_frequencies
from mdlm_jax.objectives.base import MaskFn, causal, full

SPLASH_POSITIONS = 128  # `splash` needs rows whose length is a multiple of this


class Whole(NamedTuple):
    """What a kernel that makes its own masks needs to know of whole views, read without a cache."""

    segments: Int[Array, "B N"] | None  # None where every row is one document
    mesh: Mesh | None  # the mesh that splits the rows


def rotate(
    x: Float[Array, "B N H d"],
    positions: Real[Array, "B N P"],
    base: float,
    scaling: str = "",
    rounded: bool = False,
) -> Float[Array, "B N H d"]:
    """Rotary position embedding in float32, in the half-split layout.

    Args:
        x: Queries or keys.
        positions: P coordinates of each position. Each coordinate rotates an equal share of the pairs of a head.
        base: The base of the frequencies; 0 returns `x`.
        scaling: Scaled frequencies for long contexts, such as `linear:factor=2`; see `rope_scaling`.
        rounded: Round cosines and sines to bfloat16.

    Returns:
        The rotated `x`, in its own type.

    Reference: RoFormer, arXiv 2104.09864.
    """
    if not base:
        return x
    half, coordinates = x.shape[-1] // 2, positions.shape[-1]
    per_coordinate = half // coordinates
    frequency, factor = base ** (-jnp.arange(per_coordinate) / per_coordinate), 1.0
    if scaling:
        frequency, factor = scaled_frequencies(per_coordinate, base, scaling)
        frequency = jnp.asarray(frequency, jnp.float32)
    angle = (positions[..., None] * frequency).reshape(*positions.shape[:2], 1, half)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if factor != 1:
        cos, sin = cos * factor, sin * factor
    if rounded:
        cos, sin = (jax.lax.reduce_precision(table, 8, 7) for table in (cos, sin))
    first, second = jnp.split(x, 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def allowed(mask: MaskFn, queries: Array, num_keys: int, segments: Array | None) -> Bool[Array, "#B N M"] | None:
    """Which keys each query attends to.

    Args:
        mask: The objective's mask function.
        queries: The positions of the N queries.
        num_keys: Number of keys M.
        segments: Int[B N] for whole views, where queries and keys are the same positions; None for one document a row.

    Returns:
        Bool[#B N M], or None where every query attends to every key.
    """
    seen = None if mask is full else mask(queries[:, None], jnp.arange(num_keys)[None, :])[None]
    if segments is None:
        return seen
    same = segments[:, :, None] == segments[:, None, :]
    return same if seen is None else same & seen


def einsum_attention(q, k, v, mask: MaskFn, seen: Array | None):
    """The plain formula: all scores at once, in float32. Arguments are those of `blocked_attention`."""
    batch, num_queries, groups, per_group, width = q.shape
    # heads lead and those of a group share an axis: products over leading axes need no copies of the scores
    rows = jnp.moveaxis(q * width**-0.5, 1, 3).reshape(batch, groups, -1, width)
    keys, values = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
    scores = jnp.einsum("bgrd,bgmd->bgrm", rows, keys, preferred_element_type=jnp.float32)
    if seen is not None:
        apart = scores.reshape(batch, groups, per_group, num_queries, -1)
        scores = jnp.where(seen[:, None, None], apart, jnp.finfo(jnp.float32).min).reshape(scores.shape)
    mixed = jnp.einsum("bgrm,bgmd->bgrd", jax.nn.softmax(scores, axis=-1).astype(v.dtype), values)
    return jnp.moveaxis(mixed.reshape(batch, groups, per_group, num_queries, width), 3, 1)


def library_attention(q, k, v, mask: MaskFn, seen: Array | None):
    """`jax.nn.dot_product_attention`: cuDNN's flash kernel on a GPU in half precision, XLA's formula elsewhere.

    The kernel supports rows that end early (lengths), but not several documents in a row. Those need a mask array, like
    every mask that is not causal. Arguments are those of `blocked_attention`.
    """
    batch, num_queries, groups, per_group, width = q.shape
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    implementation = "cudnn" if half and jax.default_backend() == "gpu" else None

    def call(q, k, v, **which):
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation, **which)

    heads = q.reshape(batch, num_queries, groups * per_group, width)
    whole = num_queries == k.shape[1]
    if seen is None:
        out = call(heads, k, v)
    elif mask is causal and whole and seen.shape[0] < batch:
        # a mask shared by several rows has no segments in it: `is_causal` replaces the array
        out = call(heads, k, v, is_causal=True)
    else:
        parts = []
        for span in spans_of(num_queries, k.shape[1], mask if whole else full):
            keys, values = pick(k, span.keys, axis=1), pick(v, span.keys, axis=1)
            looks = pick(seen[:, span.start : span.stop], span.keys, axis=2)[:, None]
            parts.append(call(heads[:, span.start : span.stop], keys, values, mask=looks))
        out = jnp.concatenate(parts, axis=1)
    return out.reshape(q.shape)


BACKENDS = {
    "einsum": einsum_attention,
    "library": library_attention,
    "blocked": blocked_attention,
    "splash": einsum_attention,  # where `attend` cannot use the kernel
}


def check_backend(name: str, platform: str, positions: int) -> None:
    """Checks that a backend can train on this platform.

    Args:
        name: A key of BACKENDS.
        platform: JAX's name of the platform.
        positions: Positions of a view.

    Raises:
        UserError: The backend does not support the platform or the number of positions.
    """
    if name != "splash":
        return
    if platform != "tpu":
        others = ", ".join(other for other in BACKENDS if other != name)
        raise UserError(f"config.train.attention is 'splash', a kernel for TPUs; accepted on a {platform}: {others}")
    if positions % SPLASH_POSITIONS:
        accepted = f"a multiple of {SPLASH_POSITIONS}"
        raise UserError(
            f"config.train.attention is 'splash' and a view has {positions} positions; accepted: {accepted}"
        )


def attend(
    q: Float[Array, "B N H d"],
    k: Float[Array, "B M G d"],
    v: Float[Array, "B M G d"],
    mask: MaskFn,
    seen: Bool[Array, "#B N M"] | None,
    backend: str,
    whole: Whole | None = None,
) -> Float[Array, "B N H d"]:
    """softmax(q k^T / sqrt(d)) v over the keys that `seen` allows.

    A run trained with `splash` is read with `einsum` wherever `splash` does not work: without a TPU, with rows that are
    not whole tiles, and with a cache, whose contents are known only at run time.

    Args:
        q: Queries: H heads in G groups.
        k: Keys.
        v: Values.
        mask: The objective's mask function.
        seen: The pairs that `mask` and the segments of `whole` allow; None for all.
        backend: A key of BACKENDS.
        whole: Segments and mesh of whole views; None with a cache.
    """
    batch, num_queries, heads, width = q.shape
    grouped = q.reshape(batch, num_queries, k.shape[2], heads // k.shape[2], width)
    tiles = whole is not None and num_queries % SPLASH_POSITIONS == 0
    if backend == "splash" and tiles and jax.default_backend() == "tpu":
        # imported here because it loads the kernel compiler
        from mdlm_jax.models.splash_attention import splash_attention

        return splash_attention(grouped, k, v, mask, whole.segments, whole.mesh).reshape(q.shape)
    return BACKENDS[backend](grouped, k, v, mask, seen).reshape(q.shape)
