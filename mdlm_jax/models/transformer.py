"""One transformer for every objective, bidirectional or causal by its mask. The only file that uses Flax."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.attention import allowed, attend, rotate
from mdlm_jax.models.feature_cache import WHOLE, Features, Layer, by_step, changed, put, take, valued
from mdlm_jax.objectives.base import MaskFn, View, full

REMAT_POLICIES = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # keeps matmul outputs, recomputes the rest
    "full": jax.checkpoint_policies.nothing_saveable,  # keeps the input of each block only
}


class Execution(NamedTuple):
    """How the same mathematics is run. No choice here changes a checkpoint."""

    compute_dtype: Any = jnp.float32  # bfloat16 on accelerators; weights, norms, softmax and logits stay float32
    scan_layers: bool = False  # one compiled block, right on accelerators; unrolled is faster on a CPU
    remat: str = "none"
    attention: str = "einsum"
    use_segments: bool = True  # False where every row is one document: saves the mask
    mesh: Mesh | None = None  # FSDP: weights are gathered a layer at a time, rows stay where they are


class Cache(NamedTuple):
    """Keys and values of the places read so far; a view is read into it from place `length` on."""

    layers: Any  # `Layer` of each layer, heads before places: B G M d; or one of all of them, where they are scanned
    length: Array  # i32[]
    filled: Bool[Array, "B M"] | None = None  # which places hold a token at all; None: all
    kept: Array | None = None  # i32[]: places before it stay as they are, though they be read; None: all change


class Model(NamedTuple):
    """Pure functions of the parameters."""

    init: Callable[[Array], Any]  # key -> params
    # (params, view, mask, cache=None, dropout_keys=None) -> what is before the head, and the cache thereafter
    hidden: Callable[..., tuple[Array, Cache | Features | None]]
    head: Callable[[Any, Array], Array]  # (params, hidden) -> logits, float32
    gather: Callable[[Any], Any]  # parameters -> the same, whole on every device of the mesh
    by_layer: Callable[[Any], Any]  # parameters -> the same, cut into layers once, for those who read many times
    empty_cache: Callable[[int, int], Cache]  # (B, M) -> Cache
    architecture: Architecture


class Norm(nn.Module):
    architecture: Architecture
    affine: bool = True

    @nn.compact
    def __call__(self, x):
        kind = nn.RMSNorm if self.architecture.norm == "rmsnorm" else nn.LayerNorm
        options = {"use_scale": self.affine} | ({} if kind is nn.RMSNorm else {"use_bias": self.affine})
        return kind(epsilon=self.architecture.norm_epsilon, dtype=jnp.float32, **options)(x).astype(x.dtype)


class Block(nn.Module):
    """Pre-norm attention and MLP. Dense layers see [B N, d]: on a CPU the flat matmul saves the layout copies."""

    architecture: Architecture
    execution: Execution

    @nn.compact
    def __call__(self, x, condition, view, mask, seen, cached, part, dropout_keys):
        """x after the layer, and what may be kept of it. Only the `part` is computed, the rest is as it was."""
        a, (batch, places, width) = self.architecture, x.shape
        dense = partial(nn.Dense, dtype=self.execution.compute_dtype, kernel_init=nn.initializers.normal(_std_in(a)))
        # SMDM: what writes to the residual stream starts smaller, by depth
        dense_out = partial(dense, kernel_init=nn.initializers.normal(1 / (width**0.5 * a.layers)))
        parts = [None] * 6
        if condition is not None:
            # noise levels are few where they belong to a whole view: they are multiplied out after the product
            parts = [
                _at_places(part, places) for part in jnp.split(_modulation(6 * width, "modulate")(condition), 6, -1)
            ]

        def modulated(x, shift, scale):
            return x if condition is None else (x * (1 + scale) + shift).astype(x.dtype)

        def gated(x, gate, branch):
            x = x.reshape(-1, width)
            x = x if condition is None else (x * gate).astype(x.dtype)
            return _dropout(x.reshape(batch, places, width), dropout_keys, a.dropout, branch)

        def flat_at(flat, at):
            return flat if at is None else take(flat.reshape(x.shape), at).reshape(-1, width)

        def heads(name, count, flat):
            flat = dense(count * a.head_width, use_bias=a.attention_bias, name=name)(flat)
            return flat.reshape(batch, -1, count, a.head_width)

        flat = modulated(Norm(a, name="norm_1")(x.reshape(-1, width)), *parts[:2])
        at = valued(part)
        v = put(part.old.values, heads("value", a.key_value_heads, flat_at(flat, at)), at)
        at = changed(part, v)
        flat = flat_at(flat, at)
        q, k = heads("query", a.heads, flat), heads("key", a.key_value_heads, flat)
        if a.qk_norm:
            q, k = Norm(a, name="query_norm")(q), Norm(a, name="key_norm")(k)
        q = rotate(q, take(view.positions, at), a.rope_base)
        k = put(part.old.keys, rotate(k, take(view.key_positions, at), a.rope_base), at)
        new = k, v
        if cached is not None:
            new = _into_cache(cached, k, v)
            k, v = (jnp.swapaxes(field, 1, 2) for field in new)
        mixed = attend(q, k, v, mask, take(seen, at), self.execution.attention).reshape(-1, width)
        mixed = dense_out(width, use_bias=a.attention_bias, name="attention_out")(mixed)
        mixed = put(part.old.attention, mixed.reshape(batch, -1, width), at)
        x = x + gated(mixed, parts[2], 0)

        flat = flat_at(modulated(Norm(a, name="norm_2")(x.reshape(-1, width)), *parts[3:5]), at)
        up = dense(a.mlp_width, use_bias=a.mlp_bias, name="up")(flat)
        if a.mlp == "swiglu":
            up = nn.silu(dense(a.mlp_width, use_bias=a.mlp_bias, name="gate")(flat)) * up
        else:
            up = nn.gelu(up)
        down = dense_out(width, use_bias=a.mlp_bias, name="down")(up)
        down = put(part.old.mlp, down.reshape(batch, -1, width), at)
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

    def start(self, read, t):
        """`read` is tokens, or vectors where the network has an input width."""
        condition = None
        if self.architecture.time_conditioning:
            condition = nn.silu(self.time_out(nn.silu(self.time_in(sinusoids(t)))))
        embed = self.projection if self.architecture.input_width else self.embedding
        return embed(read).astype(self.execution.compute_dtype), condition

    def end(self, x, condition):
        flat = self.norm(x.reshape(-1, x.shape[-1]))
        if condition is not None:
            parts = jnp.split(self.last_modulation(condition), 2, axis=-1)
            shift, scale = (_at_places(part, x.shape[1]) for part in parts)
            flat = (flat * (1 + scale) + shift).astype(x.dtype)
        return flat.reshape(x.shape)

    def head(self, hidden):
        tied = self.architecture.tied_head
        kernel = self.embedding.embedding[:-1].T if tied else self.kernel
        kernel, hidden = kernel.astype(self.execution.compute_dtype), hidden.astype(self.execution.compute_dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = jnp.matmul(flat, kernel, preferred_element_type=jnp.float32).reshape(*hidden.shape[:-1], -1)
        return logits + self.bias if self.architecture.head_bias else logits


def transformer(architecture: Architecture, execution: Execution) -> Model:
    """The network as pure functions. Blocks are one tree stacked over layers, whichever way they are run."""
    block, ends = Block(architecture, execution), Ends(architecture, execution)
    policy = REMAT_POLICIES[execution.remat]

    def init(key):
        key_ends, key_blocks = jax.random.split(key)
        tokens, t = jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2))
        x = jnp.zeros((1, 2, architecture.width), execution.compute_dtype)
        condition = jnp.zeros((1, 1, architecture.time_width)) if architecture.time_conditioning else None
        places = jnp.zeros((1, 2, 1), jnp.int32)
        view = View(tokens, tokens, t, t, places, places, tokens, jnp.zeros(1))
        arguments = (x, condition, view, full, None, None, WHOLE, None)
        blocks = jax.vmap(lambda key: block.init(key, *arguments)["params"])(
            jax.random.split(key_blocks, architecture.layers)
        )
        read = jnp.zeros((1, 2, architecture.input_width)) if architecture.input_width else tokens
        return {"ends": ends.init(key_ends, read, t)["params"], "blocks": blocks}

    def placed(tree, spec):
        mesh = execution.mesh
        return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))

    def gather(params):
        return placed(params, P())

    def by_layer(params):
        return params if execution.scan_layers else {**params, "blocks": _layers_of(params["blocks"])}

    def hidden(params, view: View, mask: MaskFn, cache: Cache | Features | None = None, dropout_keys=None):
        """Float[B N d] before the head, and the cache with what is to be kept of this view in it.

        With features of earlier steps (`feature_cache`), N is the whole row and most of it need not be computed.
        """
        read = view.noisy if architecture.input_width else view.tokens
        x, condition = ends.apply({"params": params["ends"]}, read, view.t, method="start")
        num_places = view.tokens.shape[1]
        if cache is None:
            segments = view.segments if execution.use_segments else None
            seen, stored = allowed(mask, jnp.arange(num_places), num_places, segments), None
        else:
            stored, first, num_keys = cache.layers, 0, num_places
            if isinstance(cache, Cache):
                first, num_keys = cache.length, jax.tree.leaves(stored)[0].shape[-2]
            seen = allowed(mask, first + jnp.arange(num_places), num_keys, None)
            if cache.filled is not None:
                filled = jnp.broadcast_to(cache.filled[:, None], (len(x), num_places, num_keys))
                seen = filled if seen is None else seen & filled

        def layer(x, params, layer_index, old):
            keys, params = dropout_keys, gather(params)
            if keys is not None:
                keys = jax.vmap(jax.random.fold_in, (0, None))(keys, layer_index)

            def run(part, cached=None):
                return block.apply({"params": params}, x, condition, view, mask, seen, cached, part, keys)

            if cache is None:
                x, new = run(WHOLE)[0], None
            elif isinstance(cache, Features):
                x, new = by_step(cache, layer_index, old, run)
            else:
                x, new = run(WHOLE, (old.keys, old.values, cache.length, cache.kept))
                new = Layer(new.keys, new.values)
            return placed(x, P(execution.mesh and execution.mesh.axis_names)), new

        if execution.remat != "none":
            layer = jax.checkpoint(layer, policy=policy)
        x, new = _through(layer, x, params["blocks"], stored, architecture.layers, execution.scan_layers)
        x = ends.apply({"params": params["ends"]}, x, condition, method="end")
        if isinstance(cache, Features):
            cache = cache._replace(layers=new, step=cache.step + 1)
        elif cache is not None:
            cache = cache._replace(layers=new, length=cache.length + num_places)
        return x, cache

    def head(params, hidden):
        return ends.apply({"params": params["ends"]}, hidden, method="head")

    def empty_cache(batch: int, places: int) -> Cache:
        shape, count = (batch, architecture.key_value_heads, places, architecture.head_width), architecture.layers

        def layer(*axes):
            return Layer(*(jnp.zeros((*axes, *shape), execution.compute_dtype) for _ in range(2)))

        layers = layer(count) if execution.scan_layers else tuple(layer() for _ in range(count))
        return Cache(layers, jnp.int32(0))

    return Model(init, hidden, head, gather, by_layer, empty_cache, architecture)


def sinusoids(t: Float[Array, "*n"], width: int = 256) -> Float[Array, "*n w"]:
    """The noise level as sines and cosines, in thousandths (DiT, MDLM)."""
    angle = 1000.0 * t[..., None] * 1e4 ** (-jnp.arange(width // 2) / (width // 2))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _through(layer, x, blocks, stored, num_layers, scan):
    """x through every block: one scanned body, or unrolled over the split tree (its gradient is one stack)."""
    if scan:

        def body(x, inputs):
            return layer(x, *inputs)

        return jax.lax.scan(body, x, (blocks, jnp.arange(num_layers), stored))
    kept = []
    for index, params in enumerate(blocks if isinstance(blocks, tuple) else _layers_of(blocks)):
        x, new = layer(x, params, index, None if stored is None else stored[index])
        kept.append(new)
    return x, tuple(kept)


def _layers_of(blocks) -> tuple:
    """The tree of each layer, of one that is stacked over layers."""
    leaves, tree = jax.tree.flatten(blocks)
    return tuple(tree.unflatten(layer) for layer in zip(*(jnp.unstack(leaf) for leaf in leaves), strict=True))


def _into_cache(cached, keys, values):
    """One layer's keys and values with the new ones in their places, but for those that are to be kept."""
    old_keys, old_values, length, kept = cached
    stays = None if kept is None else (length + jnp.arange(keys.shape[1]) < kept)[:, None]

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


def _at_places(part: Float[Array, "B T d"], places: int) -> Float[Array, "(B*{places}) d"]:
    """What each place of a flat batch is modulated by; T is 1 or the number of places."""
    return jnp.broadcast_to(part, (part.shape[0], places, part.shape[2])).reshape(-1, part.shape[2])


def _dropout(x: Float[Array, "B N d"], keys, rate: float, branch: int):
    """Dropout whose randomness belongs to the example, so that it is the same on any number of devices."""
    if keys is None or rate == 0:
        return x
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, branch)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)
