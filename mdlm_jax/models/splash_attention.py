"""Splash attention, JAX's kernel for TPUs: it skips fully masked tiles and stores no scores."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from mdlm_jax.models.layout import ROWS
from mdlm_jax.objectives.base import MaskFn, causal, full

TILES = (512, 256, 128)  # sizes of a tile, in positions; the largest that divides the row is used


def splash_attention(
    q: Float[Array, "B N G h d"],
    k: Float[Array, "B N G d"],
    v: Float[Array, "B N G d"],
    mask: MaskFn,
    segments: Int[Array, "B N"] | None,
    mesh: Mesh | None = None,
    interpret: bool = False,
) -> Float[Array, "B N G h d"]:
    """`attend` for whole views, by the splash kernel.

    Heads may have any width: XLA pads them.

    Args:
        q: Queries: G groups of h heads. N is a multiple of 128.
        k: Keys.
        v: Values.
        mask: The objective's mask function.
        segments: The documents of each row; None where every row is one document.
        mesh: The mesh that splits the rows. XLA cannot split a kernel, so each device runs its own rows.
        interpret: Run the kernel in Python, for tests without a TPU.
    """
    batch, positions, groups, per_group, width = q.shape
    tile = next(tile for tile in TILES if positions % tile == 0)
    names = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute")
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([_mask(mask, positions)] * (groups * per_group)),
        block_sizes=kernels.BlockSizes(**dict.fromkeys((*names, "block_q_dq", "block_kv_dq"), tile)),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def rows(q, k, v, segments):
        ids = None if segments is None else kernels.SegmentIds(segments, segments)
        return jax.vmap(kernel)(q, k, v, ids)

    if mesh is not None:
        split = P(ROWS)
        rows = jax.shard_map(rows, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    heads = q.reshape(batch, positions, -1, width) * width**-0.5
    out = rows(*(jnp.swapaxes(field, 1, 2) for field in (heads, k, v)), segments)
    return jnp.swapaxes(out, 1, 2).reshape(q.shape)


def _mask(mask: MaskFn, positions: int) -> masks.Mask:
    """The kernel's own full or causal mask; any other as an array, of which the kernel stores distinct tiles once."""
    if mask is full:
        return masks.FullMask((positions, positions))
    if mask is causal:
        return masks.CausalMask((positions, positions))
    return masks.NumpyMask(np.asarray(mask(np.arange(positions)[:, None], np.arange(positions)[None, :])))
