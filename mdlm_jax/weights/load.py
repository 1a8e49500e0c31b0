"""Parameters of the network from a checkpoint: tensor by tensor, straight to where they belong."""

import fnmatch
import pathlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, SingleDeviceSharding

from mdlm_jax.models.layout import split_weights
from mdlm_jax.models.transformer import Execution, Model, transformer
from mdlm_jax.weights.slots import fills_by_path, read_part
from mdlm_jax.weights.source import Source, open_source


class Weights(NamedTuple):
    """A public model as this package computes it."""

    model: Model
    params: Any
    source: Source


def load_weights(
    path: str | pathlib.Path, *, dtype: Any = jnp.float32, execution: Execution | None = None, mesh: Mesh | None = None
) -> Weights:
    """Loads a public checkpoint.

    Args:
        path: A Hugging Face folder, a .safetensors or a .gguf file.
        dtype: Type of the parameters in memory, whatever their type on disk.
        execution: How the network is run.
        mesh: The devices the parameters are split over; None: one device.

    Returns:
        The network, its parameters and what was read.

    Raises:
        UserError: The checkpoint is damaged or not one of a network computed here. Nothing is loaded then.
    """
    source = open_source(pathlib.Path(path))
    execution = execution or Execution(mesh=mesh)
    model = transformer(source.description.architecture, execution)
    return Weights(model, load_params(source, model, dtype, mesh), source)


def load_params(source: Source, model: Model, dtype: Any = jnp.float32, mesh: Mesh | None = None) -> Any:
    """The parameter tree of an opened checkpoint; every device reads its own share of each tensor."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    one = SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: one, shapes) if mesh is None else split_weights(mesh, shapes)
    fills = fills_by_path(source.description.slots)

    def leaf(path, shape, sharding):
        path = tuple(key.key for key in path)
        here, zeros = fills.get(path, ()), source.description.zeros
        assert here or any(fnmatch.fnmatchcase("/".join(path), pattern) for pattern in zeros), path
        read = partial(_read, here, source.tensors, shape.shape, dtype)
        return jax.make_array_from_callback(shape.shape, sharding, read)

    return jax.tree.map_with_path(leaf, shapes, shardings)


def _read(fills, tensors, shape, dtype, index):
    return read_part(fills, tensors, shape, index, dtype)
