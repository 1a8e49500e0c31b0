"""How weights and activations are sharded over a mesh of data x fsdp x sequence x tensor. Only this file decides it.

Rows are split over `data` and `fsdp`. Inside a layer, positions are split over `sequence`, heads and the MLP over
`tensor` (Megatron, arXiv 1909.08053). Between layers no position depends on another, so positions are split over both
(sequence parallelism, arXiv 2205.05198): the sum of a product over `tensor` becomes a reduce-scatter. The head and the
loss split positions in the same way. Each device gathers the whole head for a while; in return V need not divide
anything, and no sum over the vocabulary crosses devices.
"""

import math
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

AXES = ("data", "fsdp", "sequence", "tensor")  # the last axes communicate most: they take the nearest devices
ROWS = ("data", "fsdp")
POSITIONS = ("sequence", "tensor")

BY_OUTPUTS = ("query", "key", "value", "gate", "up")  # kernels split over `tensor` along their output axis
BY_INPUTS = ("attention_out", "down")  # .. along their input axis
KERNELS = {(module, "kernel") for module in BY_OUTPUTS + BY_INPUTS}
SMALL = 1024  # entries; smaller arrays are copied to all devices


def splits_positions(mesh: Mesh | None) -> bool:
    """Whether the mesh splits the positions of a row."""
    return mesh is not None and mesh.shape["sequence"] * mesh.shape["tensor"] > 1


def pin(mesh: Mesh | None, x: Array, *spec) -> Array:
    """Shards `x`: one entry of `spec` for each axis, as in PartitionSpec. Without a mesh `x` is returned unchanged."""
    return x if mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*spec)))


def rows_of(mesh: Mesh, count: int) -> tuple[str, ...]:
    """The mesh axes that split `count` rows; none if the devices do not divide them, as can happen in validation."""
    return ROWS if count % (mesh.shape["data"] * mesh.shape["fsdp"]) == 0 else ()


def split_weights(mesh: Mesh, tree: Any) -> Any:
    """The sharding of each array of a state between steps.

    An array is split over `tensor` by its name, and over `fsdp` and `sequence` by its shape. Axis 0 of a block's leaf
    counts layers and is never split, because `gather` takes one whole layer at a time.

    Args:
        mesh: The devices.
        tree: A state or its shapes.

    Returns:
        A tree of NamedSharding.
    """

    def sharding(path, leaf) -> NamedSharding:
        stacked = "blocks" in names_of(path)
        spec = _split(mesh, path, leaf.shape[stacked:])
        return NamedSharding(mesh, P(*([None] * stacked), *spec) if any(spec) else P())

    return jax.tree.map_with_path(sharding, tree)


def gather(mesh: Mesh | None, params: Any, dtype: Any = None) -> Any:
    """Gathers the weights of a layer, or of the ends; those split over `tensor` stay split.

    Gradients are reduce-scattered: to sum all of a gradient on every device would move twice the bytes.

    Args:
        mesh: The devices; None returns `params`.
        params: The weights.
        dtype: The type in which the kernels of a layer are sent and used; the ends need none.
    """
    if mesh is None:
        return params

    def whole(path, leaf):
        gathered, split = _over_tensor(mesh, path, leaf.shape), _split(mesh, path, leaf.shape)
        if names_of(path)[-2:] in KERNELS and leaf.dtype != dtype:
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


def names_of(path) -> tuple[str, ...]:
    """The dict keys on the path to a leaf: its modules and its own name. Tuples of the state are left out."""
    return tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))


def _over_tensor(mesh: Mesh, path, shape: tuple[int, ...]) -> list:
    """Which axis of an array is split over `tensor`; `shape` has no axis of layers."""
    spec: list[str | None] = [None] * len(shape)
    module, leaf = ("", "", *names_of(path))[-2:]
    if mesh.shape["tensor"] > 1 and module in BY_OUTPUTS:
        spec[-1] = "tensor"
    if mesh.shape["tensor"] > 1 and module in BY_INPUTS and leaf == "kernel":
        spec[-2] = "tensor"
    return spec


def _split(mesh: Mesh, path, shape: tuple[int, ...]) -> list:
    """The spec of the array between uses: the rest of the mesh splits its longest axis that divides evenly."""
    spec = _over_tensor(mesh, path, shape)
    axes = ("fsdp", "sequence") if any(spec) else ("fsdp", "sequence", "tensor")
    axes = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    devices = math.prod(mesh.shape[axis] for axis in axes)
    free = [i for i, length in enumerate(shape) if spec[i] is None and length % devices == 0]
    if axes and free and math.prod(shape) >= SMALL:
        spec[max(free, key=lambda i: shape[i])] = axes
    return spec
