"""The parts of the network: a block, and what stands before and after the blocks. Flax is used here alone."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.attention import Whole, rotate
from mdlm_jax.models.feature_cache import Layer, changed, put, take, valued
from mdlm_jax.models.float8 import float8_product
from mdlm_jax.models.layout import POSITIONS, ROWS, pin, splits_positions
from mdlm_jax.models.split_attention import split_attention


class Execution(NamedTuple):
    """How the same mathematics is run. No choice here changes a checkpoint."""

    compute_dtype: Any = jnp.float32  # bfloat16 on accelerators; weights, norms, softmax and logits stay float32
    float8: bool = False  # products of the layers in 8 bits
    scan_layers: bool = False  # one compiled block, right on accelerators; unrolled is faster on a CPU
    remat: str = "none"
    attention: str = "einsum"
    use_segments: bool = True  # False where every row is one document: saves the mask
    mesh: Mesh | None = None  # where weights and activations lie (`layout`); None: one device, or one's own part


class Norm(nn.Module):
    architecture: Architecture
    affine: bool = True

    @nn.compact
    def __call__(self, x):
        kind = nn.RMSNorm if self.architecture.norm == "rmsnorm" else nn.LayerNorm
        options: dict[str, Any] = {"use_scale": self.affine} | ({} if kind is nn.RMSNorm else {"use_bias": self.affine})
        return kind(epsilon=self.architecture.norm_epsilon, dtype=jnp.float32, **options)(x).astype(x.dtype)


class Block(nn.Module):
    """Pre-norm attention and MLP. Dense layers see [B N, d]: on a CPU the flat matmul saves the layout copies."""

    architecture: Architecture
    execution: Execution

    @nn.compact
    def __call__(self, x, condition, view, mask, seen, cached, part, dropout_keys):
        """x after the layer, and what may be kept of it. Only the `part` is computed, the rest is as it was."""
        a, (batch, positions, width) = self.architecture, x.shape
        dense = partial(
            nn.Dense,
            dtype=self.execution.compute_dtype,
            dot_general=float8_product if self.execution.float8 else None,
            kernel_init=nn.initializers.normal(_std_in(a)),
        )
        # SMDM: what writes to the residual stream starts smaller, by depth
        dense_out = partial(dense, kernel_init=nn.initializers.normal(1 / (width**0.5 * a.layers)))
        mesh = self.execution.mesh if splits_positions(self.execution.mesh) else None
        flatten = partial(_flatten, mesh)
        parts = [None] * 6
        if condition is not None:
            # noise levels are few where they belong to a whole view: they are multiplied out after the product
            parts = jnp.split(_modulation(6 * width, "modulate")(condition), 6, -1)
            parts = [flatten(_at_positions(part, positions)) for part in parts]

        def modulated(x, shift, scale):
            return x if condition is None else (x * (1 + scale) + shift).astype(x.dtype)

        def gated(x, gate, branch):
            x = flatten(pin(mesh, x, ROWS, POSITIONS))
            x = x if condition is None else (x * gate).astype(x.dtype)
            return _dropout(x.reshape(batch, positions, width), dropout_keys, a.dropout, branch)

        def flat_at(flat, at):
            return flat if at is None else take(flat.reshape(x.shape), at).reshape(-1, width)

        def heads(name, count, flat):
            flat = dense(count * a.head_width, use_bias=a.attention_bias or a.qkv_bias, name=name)(flat)
            return pin(mesh, flat.reshape(batch, -1, count, a.head_width), ROWS, "sequence", "tensor")

        def read(name, shift, scale):
            return pin(mesh, modulated(Norm(a, name=name)(flatten(x)), shift, scale), ROWS, "sequence")

        flat = read("norm_1", *parts[:2])
        at, kept = valued(part)
        v = put(part.old.values, heads("value", a.key_value_heads, flat_at(flat, at)), at, kept)
        at, kept = changed(part, v)
        flat = flat_at(flat, at)
        q, k = heads("query", a.heads, flat), heads("key", a.key_value_heads, flat)
        if a.qk_norm:
            q, k = Norm(a, name="query_norm")(q), Norm(a, name="key_norm")(k)
        rope = a.rope_base, a.rope_scaling, a.rope_bfloat16
        q = rotate(q, take(view.positions, at), *rope)
        k = put(part.old.keys, rotate(k, take(view.key_positions, at), *rope), at, kept)
        new = k, v
        if cached is not None:
            new = _into_cache(cached, k, v)
            k, v = (jnp.swapaxes(field, 1, 2) for field in new)
        execution, whole = self.execution, None
        if cached is None and part.reuse is None:
            whole = Whole(view.segments if execution.use_segments else None, execution.mesh)
        mixed = split_attention(q, k, v, mask, take(seen, at), execution.attention, whole, mesh)
        mixed = flatten(mixed.reshape(batch, -1, a.heads * a.head_width))
        mixed = dense_out(width, use_bias=a.attention_bias, name="attention_out")(mixed)
        mixed = put(part.old.attention, mixed.reshape(batch, -1, width), at, kept)
        x = x + gated(mixed, parts[2], 0)

        flat = flat_at(read("norm_2", *parts[3:5]), at)
        up = dense(a.mlp_width, use_bias=a.mlp_bias, name="up")(flat)
        if a.mlp == "swiglu":
            up = nn.silu(dense(a.mlp_width, use_bias=a.mlp_bias, name="gate")(flat)) * up
        else:
            up = nn.gelu(up)
        down = dense_out(width, use_bias=a.mlp_bias, name="down")(pin(mesh, up, ROWS, "sequence", "tensor"))
        down = put(part.old.mlp, down.reshape(batch, -1, width), at, kept)
        x = x + gated(down, parts[5], 1)
        return x, Layer(*new, mixed, down)


class Ends(nn.Module):
    """What stands before and after the blocks: embedding, time embedding, last norm, head."""

    architecture: Architecture
    execution: Execution

    def setup(self):
        a = self.architecture
        if a.input_width:
            self.projection = nn.Dense(a.width, use_bias=False, dtype=self.execution.compute_dtype)
        else:
            # V + 1 rows: the mask is the last
            self.embedding = nn.Embed(a.vocab_size + 1, a.width, embedding_init=nn.initializers.normal(_std_in(a)))
        if a.learned_positions:
            shape = (a.learned_positions, a.width)
            self.positions = self.param("positions", nn.initializers.normal(_std_in(a)), shape)
        self.norm = Norm(a)
        if a.time_conditioning:
            self.time_in, self.time_out = nn.Dense(a.time_width), nn.Dense(a.time_width)
            self.last_modulation = _modulation(2 * a.width)
        if not a.tied_head:
            self.kernel = self.param("head", nn.initializers.normal(_std_in(a)), (a.width, a.vocab_size))
        if a.head_bias:
            self.bias = self.param("head_bias", nn.initializers.zeros, (a.vocab_size,))

    def __call__(self, read, t):
        """Touches every parameter, for `init`."""
        x, condition = self.start(read, t)
        return self.head(self.end(x, condition))

    def start(self, read, level, positions=None):
        """Vectors of the residual stream, and of the noise level.

        `read` is tokens, or vectors where the network has an input width; `level` is t or sigma; `positions` are those
        of `read`, [B N P].
        """
        condition = None
        if self.architecture.time_conditioning:
            level = 1000.0 * level if self.architecture.time_embedding == "t" else level
            condition = nn.silu(self.time_out(nn.silu(self.time_in(sinusoids(level)))))
        embed = self.projection if self.architecture.input_width else self.embedding
        x = embed(read)
        if self.architecture.learned_positions and positions is not None:
            x = x + self.positions[positions[..., 0]]
        return x.astype(self.execution.compute_dtype), condition

    def end(self, x, condition):
        flatten = partial(_flatten, self.execution.mesh)
        flat = self.norm(flatten(x))
        if condition is not None:
            parts = jnp.split(self.last_modulation(condition), 2, axis=-1)
            shift, scale = (flatten(_at_positions(part, x.shape[1])) for part in parts)
            flat = (flat * (1 + scale) + shift).astype(x.dtype)
        return flat.reshape(x.shape)

    def head(self, hidden):
        tied = self.architecture.tied_head
        kernel = self.embedding.embedding[:-1].T if tied else self.kernel
        kernel, hidden = kernel.astype(self.execution.compute_dtype), hidden.astype(self.execution.compute_dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = jnp.matmul(flat, kernel, preferred_element_type=jnp.float32).reshape(*hidden.shape[:-1], -1)
        return logits + self.bias if self.architecture.head_bias else logits


def sinusoids(level: Float[Array, "*n"], width: int = 256) -> Float[Array, "*n w"]:
    """Cosines and sines of a noise level, 1000 t in DiT and sigma in SEDD, at frequencies from 1 down to 1e-4."""
    angle = level[..., None] * 1e4 ** (-jnp.arange(width // 2) / (width // 2))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _into_cache(cached, keys, values):
    """One layer's keys and values with the new ones in their positions, but for those that are to be kept."""
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


def _std_in(architecture: Architecture) -> float:
    """SMDM's initial standard deviation of matrices that read the residual stream, and of the embedding."""
    return (2 / 5 / architecture.width) ** 0.5


def _modulation(width: int, name: str | None = None):
    """adaLN-zero (DiT, arXiv 2212.09748): shifts, scales and gates that start at zero."""
    return nn.Dense(width, kernel_init=nn.initializers.zeros, name=name)


def _at_positions(part: Float[Array, "B T d"], positions: int) -> Float[Array, "B {positions} d"]:
    """What each position is modulated by; T is 1 or the number of positions."""
    return jnp.broadcast_to(part, (part.shape[0], positions, part.shape[2]))


def _flatten(mesh: Mesh | None, x):
    """[B N d] as products see it: [B N, d], unless positions are split over devices, which no split of B N could
    say."""
    return x if splits_positions(mesh) else x.reshape(-1, x.shape[-1])


def _dropout(x: Float[Array, "B N d"], keys, rate: float, branch: int):
    """Dropout whose randomness belongs to the example, so that it is the same on any number of devices."""
    if keys is None or rate == 0:
        return x
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, branch)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)
