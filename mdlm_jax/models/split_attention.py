"""Attention on a mesh that splits positions or heads."""

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from mdlm_jax.models.attention import Whole, attend
from mdlm_jax.models.layout import rows_of, splits_positions
from mdlm_jax.objectives.base import MaskFn


def split_attention(
    q: Float[Array, "B N H d"],
    k: Float[Array, "B M G d"],
    v: Float[Array, "B M G d"],
    mask: MaskFn,
    seen: Bool[Array, "#B N M"] | None,
    backend: str,
    whole: Whole | None,
    mesh: Mesh | None,
) -> Float[Array, "B N H d"]:
    """`attend` on a mesh. Where positions are split, each device gathers the keys and values for its own queries.

    It gathers 2 B M G d / tensor entries per layer in the forward pass, as many again where the layer is recomputed,
    and scatters as many gradients. Every query is paired with every key: here no backend can skip the pairs that a
    causal mask forbids.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: As in `attend`.
        seen: As in `attend`.
        backend: As in `attend`.
        whole: As in `attend`; required where positions are split.
        mesh: The devices; None for one.
    """
    if not splits_positions(mesh):
        return attend(q, k, v, mask, seen, backend, whole)

    def local(q, k, v, seen, segments):
        k, v = (jax.lax.all_gather(x, "sequence", axis=1, tiled=True) for x in (k, v))
        own = Whole(segments, None) if q.shape[1] == k.shape[1] else None
        return attend(q, k, v, mask, seen, backend, own)

    rows = rows_of(mesh, len(q))
    heads = P(rows, "sequence", "tensor")
    pairs = P(rows if seen is not None and len(seen) > 1 else None, "sequence")
    in_specs = (heads, heads, heads, pairs, P(rows))
    return jax.shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=heads, check_vma=False)(
        q, k, v, seen, whole.segments
    )
