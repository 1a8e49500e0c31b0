"""Where weights and activations lie on a mesh of data x fsdp x sequence x tensor; only this file decides it.

Rows are split over `data` and `fsdp`. Inside a layer positions are split over `sequence`, heads and the MLP over
`tensor` (Megatron, arXiv 1909.08053); between layers, where every position is by itself, positions are split over both
(arXiv 2205.05198), so that a product's sum over `tensor` leaves each device its own positions. So it is with the head
and the loss: any V will do and no sum over the vocabulary crosses devices, for which each holds the whole head for a
while.
"""

import math
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

AXES = ("data", "fsdp", "sequence", "tensor")  # the last are the nearest devices: they talk the most
ROWS = ("data", "fsdp")
POSITIONS = ("sequence", "tensor")

BY_OUTPUTS = ("query", "key", "value", "gate", "up")
BY_INPUTS = ("attention_out", "down")
KERNELS = {(module, "kernel") for module in BY_OUTPUTS + BY_INPUTS}
SMALL = 1024  # numbers; arrays of a layer below that are copied to all devices


def splits_positions(mesh: Mesh | None) -> bool:
    return mesh is not None and mesh.shape["sequence"] * mesh.shape["tensor"] > 1


def pin(mesh: Mesh | None, x: Array, *spec) -> Array:
    """x with its axes split as `spec` says; as it is where there is no mesh."""
    return x if mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*spec)))


def rows_of(mesh: Mesh, count: int) -> tuple[str, ...]:
    """The axes that split `count` rows; none where they do not divide, which only validation meets."""
    return ROWS if count % (mesh.shape["data"] * mesh.shape["fsdp"]) == 0 else ()


def split_weights(mesh: Mesh, tree: Any) -> Any:
    """How each array of a state lies between steps: over `tensor` by its name, over the others but `data` by its shape.

    Axis 0 of a block's leaf counts layers and is never split: a layer is gathered whole when its turn comes.
    """

    def sharding(path, leaf) -> NamedSharding:
        stacked = "blocks" in _names(path)
        spec = _split(mesh, path, leaf.shape[stacked:])
        return NamedSharding(mesh, P(*([None] * stacked), *spec) if any(spec) else P())

    return jax.tree.map_with_path(sharding, tree)


def gather(mesh: Mesh | None, params: Any, dtype: Any = None) -> Any:
    """The weights of a layer, or of the ends, whole but for what `tensor` splits.

    The kernels of a layer travel in `dtype`, in which they are used. A gradient is split again where it is summed: else
    every device would sum all of it, for twice the bytes.
    """
    if mesh is None:
        return params

    def whole(path, leaf):
        gathered, split = _over_tensor(mesh, path, leaf.shape), _split(mesh, path, leaf.shape)
        if _names(path)[-2:] in KERNELS and leaf.dtype != dtype:
            # XLA for GPUs would cast after it gathers, where a layer is recomputed
            leaf = jax.lax.optimization_barrier(leaf.astype(dtype))
        return _gathered(NamedSharding(mesh, P(*gathered)), NamedSharding(mesh, P(*split)), leaf)

    return jax.tree.map_with_path(whole, params)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gathered(whole: NamedSharding, split: NamedSharding, leaf):
    return jax.lax.with_sharding_constraint(leaf, whole)


_gathered.defvjp(
    lambda whole, split, leaf: (_gathered(whole, split, leaf), None),
    lambda whole, split, _, gradient: (jax.lax.with_sharding_constraint(gradient, split),),
)


def _names(path) -> tuple[str, ...]:
    """Of the modules around a leaf and its own, whatever tuples of the state are around them."""
    return tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))


def _over_tensor(mesh: Mesh, path, shape: tuple[int, ...]) -> list:
    """What of an array, without the axis of layers, is split over `tensor`."""
    spec: list[str | None] = [None] * len(shape)
    module, leaf = ("", "", *_names(path))[-2:]
    if mesh.shape["tensor"] > 1 and module in BY_OUTPUTS:
        spec[-1] = "tensor"
    if mesh.shape["tensor"] > 1 and module in BY_INPUTS and leaf == "kernel":
        spec[-2] = "tensor"
    return spec


def _split(mesh: Mesh, path, shape: tuple[int, ...]) -> list:
    """The same array between uses: also split, over what is left of the mesh, along its longest axis that divides."""
    spec = _over_tensor(mesh, path, shape)
    axes = ("fsdp", "sequence") if any(spec) else ("fsdp", "sequence", "tensor")
    axes = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    devices = math.prod(mesh.shape[axis] for axis in axes)
    free = [i for i, length in enumerate(shape) if spec[i] is None and length % devices == 0]
    if axes and free and math.prod(shape) >= SMALL:
        spec[max(free, key=lambda i: shape[i])] = axes
    return spec
