"""One transformer for every objective, bidirectional or causal by its mask, as pure functions of its parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.attention import allowed
from mdlm_jax.models.block import Block
from mdlm_jax.models.feature_cache import WHOLE, Features, Layer, by_step
from mdlm_jax.models.layers import Ends, Execution, ids_of
from mdlm_jax.models.layout import POSITIONS, ROWS, gather, pin
from mdlm_jax.models.modalities import rotary_coordinates
from mdlm_jax.models.parametrization import drawn, folded, output_multiplier
from mdlm_jax.objectives.base import MaskFn, View, full

REMAT_POLICIES = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # keeps matmul outputs, recomputes the rest
    "full": jax.checkpoint_policies.nothing_saveable,  # keeps the input of each block only
}


class Cache(NamedTuple):
    """Keys and values of the positions read so far. The next view is written from position `length` on."""

    layers: Any  # a `Layer` for each layer, with arrays [B G M d]; one `Layer` stacked over layers if they are scanned
    length: Array  # i32[]: positions written so far
    filled: Bool[Array, "B M"] | None = None  # which positions hold a token; None: all
    kept: Array | None = None  # i32[] or i32[B]: positions before it are not overwritten; None: all may be


class Model(NamedTuple):
    """A network as pure functions of its parameters."""

    init: Callable[[Array], Any]  # key -> params
    # (params, view, mask, cache=None, dropout_keys=None) -> the input of the head, and the updated cache
    hidden: Callable[..., tuple[Array, Cache | Features | None]]
    head: Callable[[Any, Array], Array]  # (params, hidden) -> logits of the ids that their head has, float32
    empty_cache: Callable[[int, int], Cache]  # (B, M) -> Cache
    architecture: Architecture
    # params -> the same, unstacked into layers once, for callers that run the network many times
    by_layer: Callable[[Any], Any] = lambda params: params
    mesh: Mesh | None = None  # the mesh that shards the parameters


def transformer(
    architecture: Architecture, execution: Execution, noise_level: Callable[[Array], Array] | None = None
) -> Model:
    """The network as pure functions. The parameters of the blocks are one tree stacked over layers.

    Args:
        architecture: The shape of the network.
        execution: How it is computed.
        noise_level: Maps the times of a view to the noise level that time conditioning embeds; None embeds the times.
    """
    block, ends = Block(architecture, execution), Ends(architecture, execution)
    policy, multiplier = REMAT_POLICIES[execution.remat], output_multiplier(architecture)
    # weights do not depend on the execution, and a mesh cannot split the two positions used to draw them
    single = Block(architecture, execution._replace(mesh=None))

    def init(key):
        key_ends, key_blocks = jax.random.split(key)
        tokens, t = jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2))
        x = jnp.zeros((1, 2, architecture.width), execution.compute_dtype)
        condition = jnp.zeros((1, 1, architecture.time_width)) if architecture.time_conditioning else None
        positions = jnp.zeros((1, 2, 1), jnp.int32)
        view = View(tokens, tokens, t, t, positions, positions, tokens, jnp.zeros(1))
        arguments = (x, condition, view, full, None, None, WHOLE, None)
        blocks = jax.vmap(lambda key: single.init(key, *arguments)["params"])(
            jax.random.split(key_blocks, architecture.layers)
        )
        read = jnp.zeros((1, 2, architecture.input_width)) if architecture.input_width else tokens
        return drawn(architecture, {"ends": ends.init(key_ends, read, t)["params"], "blocks": blocks})

    def by_layer(params):
        params = folded(architecture, params)
        return params if execution.scan_layers else {**params, "blocks": _layers_of(params["blocks"])}

    def hidden(params, view: View, mask: MaskFn, cache: Cache | Features | None = None, dropout_keys=None):
        """The input of the head, [B N d], and the cache updated with this view.

        With `Features` (`feature_cache`) the view is the whole row, and most positions come from the cache.
        """
        params, read = folded(architecture, params), view.noisy if architecture.input_width else view.tokens
        level = view.t if noise_level is None else noise_level(view.t)
        x, condition = ends.apply({"params": params["ends"]}, read, level, view.positions, method="start")
        x = pin(execution.mesh, x, ROWS, POSITIONS)
        view = view._replace(
            positions=rotary_coordinates(architecture, view.positions),
            key_positions=rotary_coordinates(architecture, view.key_positions),
        )
        num_positions = view.tokens.shape[1]
        if cache is None:
            segments = view.segments if execution.use_segments else None
            seen, stored = allowed(mask, jnp.arange(num_positions), num_positions, segments), None
            if view.opened is not None:
                seen = view.opened if seen is None else view.opened & seen
        else:
            stored, first, num_keys = cache.layers, 0, num_positions
            if isinstance(cache, Cache):
                first, num_keys = cache.length, jax.tree.leaves(stored)[0].shape[-2]
            seen = allowed(mask, first + jnp.arange(num_positions), num_keys, None)
            if cache.filled is not None:
                filled = jnp.broadcast_to(cache.filled[:, None], (len(x), num_positions, num_keys))
                seen = filled if seen is None else seen & filled

        def layer(x, params, layer_index, old):
            keys, params = dropout_keys, gather(execution.mesh, params, execution.compute_dtype)
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
            return pin(execution.mesh, x, ROWS, POSITIONS), new

        if execution.remat != "none":
            layer = jax.checkpoint(layer, policy=policy)
        x, new = _through(layer, x, params["blocks"], stored, architecture.layers, execution.scan_layers)
        x = ends.apply({"params": params["ends"]}, x, condition, method="end")
        if isinstance(cache, Features):
            cache = cache._replace(layers=new, step=cache.step + cache.active)
        elif cache is not None:
            cache = cache._replace(layers=new, length=cache.length + num_positions)
        return x, cache

    def head(params, hidden):
        hidden = hidden if multiplier == 1 else hidden * multiplier
        of_its_ids = Ends(architecture._replace(vocab_size=ids_of(params["ends"])), execution)
        return of_its_ids.apply({"params": params["ends"]}, hidden, method="head")

    def empty_cache(batch: int, positions: int) -> Cache:
        shape, count = (batch, architecture.key_value_heads, positions, architecture.head_width), architecture.layers

        def layer(*axes):
            return Layer(*(jnp.zeros((*axes, *shape), execution.compute_dtype) for _ in range(2)))

        layers = layer(count) if execution.scan_layers else tuple(layer() for _ in range(count))
        return Cache(layers, jnp.int32(0))

    return Model(init, hidden, head, empty_cache, architecture, by_layer, execution.mesh)


def _through(layer, x, blocks, stored, num_layers, scan):
    """Runs x through every block: scanned, or unrolled over the unstacked tree (its gradient is one stacked tree)."""
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
    """The tree of each layer, from a tree stacked over layers."""
    leaves, tree = jax.tree.flatten(blocks)
    return tuple(tree.unflatten(layer) for layer in zip(*(jnp.unstack(leaf) for leaf in leaves), strict=True))
