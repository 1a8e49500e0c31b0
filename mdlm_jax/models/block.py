"""One layer of the transformer: attention and MLP, with modulation, dropout and caches."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.attention import Whole, rotate
from mdlm_jax.models.feature_cache import Layer, changed, put, take, valued
from mdlm_jax.models.float8 import float8_product
from mdlm_jax.models.layers import Execution, Norm, at_positions, flatten, modulation, std_in
from mdlm_jax.models.layout import POSITIONS, ROWS, pin, splits_positions
from mdlm_jax.models.split_attention import split_attention


class Block(nn.Module):
    """Pre-norm attention and MLP. Dense layers take [B N, d]: on a CPU the flat product saves copies of the layout."""

    architecture: Architecture
    execution: Execution

    @nn.compact
    def __call__(self, x, condition, view, mask, seen, cached, part, dropout_keys):
        """Runs the layer.

        Args:
            x: The residual stream, [B N d].
            condition: The embedded noise level, [B T c], or None.
            view: The view: its positions and segments.
            mask: The objective's mask function.
            seen: Which pairs `mask` and the segments allow, bool[#B N M]; None for all.
            cached: (keys, values, length, kept) of this layer's key-value cache (`transformer.Cache`), or None.
            part: Which positions to compute; features of the others come from `part.old` (`feature_cache`).
            dropout_keys: A key for each row, or None for no dropout.

        Returns:
            The residual stream after the layer, [B N d], and the features that a cache may keep.
        """
        shared = _Shared(self.architecture, self.execution, x.shape, dropout_keys)
        parts = shared.modulations(condition)
        mixed, keys, values, at, kept = _attention(shared, x, parts[:2], view, mask, seen, cached, part)
        x = x + shared.gated(mixed, parts[2], branch=0)
        down = _mlp(shared, x, parts[3:5], at)
        down = put(part.old.mlp, down, at, kept)
        x = x + shared.gated(down, parts[5], branch=1)
        return x, Layer(keys, values, mixed, down)


def _attention(shared: "_Shared", x, shift_scale, view, mask, seen, cached, part):
    """The attention branch, before its gate.

    Returns:
        Its output, [B N d]; keys and values for a cache; the positions that were computed, and which a row keeps.
    """
    a, execution, mesh = shared.architecture, shared.execution, shared.mesh
    batch, _, width = shared.shape
    flat = shared.normed("norm_1", x, *shift_scale)
    at, kept = valued(part)
    v = put(part.old.values, shared.heads("value", a.key_value_heads, shared.flat_at(flat, at)), at, kept)
    at, kept = changed(part, v)
    flat = shared.flat_at(flat, at)
    q, k = shared.heads("query", a.heads, flat), shared.heads("key", a.key_value_heads, flat)
    if a.qk_norm:
        q, k = Norm(a, name="query_norm")(q), Norm(a, name="key_norm")(k)
    rope = a.rope_base, a.rope_scaling, a.rope_bfloat16
    q = rotate(q, take(view.positions, at), *rope)
    k = put(part.old.keys, rotate(k, take(view.key_positions, at), *rope), at, kept)
    new = k, v
    if cached is not None:
        new = _into_cache(cached, k, v)
        k, v = (jnp.swapaxes(field, 1, 2) for field in new)
    whole = None
    if cached is None and part.reuse is None:
        whole = Whole(view.segments if execution.use_segments else None, execution.mesh)
    mixed = split_attention(q, k, v, mask, take(seen, at), execution.attention, whole, mesh)
    mixed = shared.flatten(mixed.reshape(batch, -1, a.heads * a.head_width))
    mixed = shared.dense_out(width, use_bias=a.attention_bias, name="attention_out")(mixed)
    return put(part.old.attention, mixed.reshape(batch, -1, width), at, kept), *new, at, kept


def _mlp(shared: "_Shared", x, shift_scale, at):
    """The MLP branch at the R positions `at`, before its gate: [B R d]."""
    a, (batch, _, width) = shared.architecture, shared.shape
    flat = shared.flat_at(shared.normed("norm_2", x, *shift_scale), at)
    up = shared.dense(a.mlp_width, use_bias=a.mlp_bias, name="up")(flat)
    if a.mlp == "swiglu":
        up = nn.silu(shared.dense(a.mlp_width, use_bias=a.mlp_bias, name="gate")(flat)) * up
    else:
        up = nn.gelu(up)
    up = pin(shared.mesh, up, ROWS, "sequence", "tensor")
    return shared.dense_out(width, use_bias=a.mlp_bias, name="down")(up).reshape(batch, -1, width)


class _Shared(NamedTuple):
    """What the attention and the MLP of a block share. Layers made here become submodules of the calling block."""

    architecture: Architecture
    execution: Execution
    shape: tuple[int, int, int]  # B, N, d
    dropout_keys: Array | None

    @property
    def mesh(self) -> Mesh | None:
        """The mesh, where it splits positions."""
        return self.execution.mesh if splits_positions(self.execution.mesh) else None

    def dense(self, features: int, std: float | None = None, **options) -> nn.Dense:
        return nn.Dense(
            features,
            dtype=self.execution.compute_dtype,
            dot_general=float8_product if self.execution.float8 else None,
            kernel_init=nn.initializers.normal(std or std_in(self.architecture)),
            **options,
        )

    def dense_out(self, features: int, **options) -> nn.Dense:
        """A dense layer that writes to the residual stream. As in SMDM, its initial weights shrink with the depth."""
        return self.dense(features, 1 / (self.shape[2] ** 0.5 * self.architecture.layers), **options)

    def flatten(self, x):
        return flatten(self.mesh, x)

    def flat_at(self, flat, at):
        """The positions `at` of each row of a flattened [B N d], flattened again."""
        return flat if at is None else take(flat.reshape(self.shape), at).reshape(-1, self.shape[2])

    def heads(self, name: str, count: int, flat):
        """Queries, keys or values: [B R count head_width]."""
        a = self.architecture
        flat = self.dense(count * a.head_width, use_bias=a.attention_bias or a.qkv_bias, name=name)(flat)
        return pin(self.mesh, flat.reshape(self.shape[0], -1, count, a.head_width), ROWS, "sequence", "tensor")

    def modulations(self, condition) -> list:
        """The adaLN shift, scale and gate of attention, then those of the MLP; six times None without condition."""
        if condition is None:
            return [None] * 6
        # a whole view may share one noise level: the product comes first, then the copies for all positions
        parts = jnp.split(modulation(6 * self.shape[2], "modulate")(condition), 6, -1)
        return [self.flatten(at_positions(part, self.shape[1])) for part in parts]

    def normed(self, name: str, x, shift, scale):
        """The flattened residual stream after a norm and its modulation."""
        x = Norm(self.architecture, name=name)(self.flatten(x))
        x = x if shift is None else (x * (1 + scale) + shift).astype(x.dtype)
        return pin(self.mesh, x, ROWS, "sequence")

    def gated(self, x, gate, branch: int):
        """The output of a branch after its gate and dropout: what is added to the residual stream."""
        x = self.flatten(pin(self.mesh, x, ROWS, POSITIONS))
        x = x if gate is None else (x * gate).astype(x.dtype)
        return _dropout(x.reshape(self.shape), self.dropout_keys, self.architecture.dropout, branch)


def _into_cache(cached, keys, values):
    """Writes new keys and values into a layer's cache from position `length` on, except at positions before `kept`."""
    old_keys, old_values, length, kept = cached
    stays = None
    if kept is not None:
        stays = (length + jnp.arange(keys.shape[1]) < kept[..., None])[..., None, :, None]

    def put(old, new):
        new = jnp.swapaxes(new, 1, 2)
        if stays is not None:
            new = jnp.where(stays, jax.lax.dynamic_slice_in_dim(old, length, new.shape[2], axis=2), new)
        return jax.lax.dynamic_update_slice_in_dim(old, new, length, axis=2)

    return put(old_keys, keys), put(old_values, values)


def _dropout(x: Float[Array, "B N d"], keys, rate: float, branch: int):
    """Dropout with a key for each example, so that it is the same on any number of devices."""
    if keys is None or rate == 0:
        return x
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, branch)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)
