"""Writing a checkpoint as a Hugging Face folder: the same tensors, names and small files as were read."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.weights.card import records
from mdlm_jax.weights.folder import INDEX, SINGLE, check_new_folder
from mdlm_jax.weights.load import Weights
from mdlm_jax.weights.safetensors_file import Stored, write_safetensors
from mdlm_jax.weights.slots import Path, Slot, write_slot
from mdlm_jax.weights.source import CONFIG, Source, open_source
from mdlm_jax.weights.tensors import DTYPES, FLOATS, Tensor
from mdlm_jax.whole_folder import whole_folder

SHARD_BYTES = 5 * 10**9  # of tensors in one file, as transformers splits them
PUBLISHED = {name: dtype for dtype, name in DTYPES.items()}


def save_weights(
    folder: str | pathlib.Path,
    weights: Weights,
    *,
    dtype: str = "",
    shard_bytes: int = SHARD_BYTES,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Writes the parameters as the kind of folder they came from, for this package and for transformers.

    Args:
        folder: A new or empty folder.
        weights: The result of `load_weights`, with the parameters to write.
        dtype: Float32, bfloat16 or float16; empty: each tensor as it was stored, which gives its bits back.
        shard_bytes: The most bytes of tensors in one file.
        training: What training.json and the model card say of how the parameters were trained.

    Raises:
        UserError: The folder holds something or cannot be written, or the tree is not that of the network it came from:
            an architecture's tensors hold neither more nor less.
    """
    source, leaves = weights.source, {}
    if not source.description.writable:
        raise UserError(f"{source.path}: {source.kind} can be read only; accepted: another architecture")
    for path, leaf in jax.tree.leaves_with_path(weights.params):
        leaves[tuple(key.key for key in path)] = np.asarray(leaf)
    _check_tree(source, leaves)
    stored = [
        Stored(slot.name, name, slot.shape, partial(write_slot, slot, leaves, name))
        for slot, name in _names(source, dtype)
    ]
    _write(pathlib.Path(folder), source, stored, shard_bytes, training)


def _check_tree(source: Source, leaves: dict[Path, np.ndarray]) -> None:
    """Refuses parameters that the architecture's tensors cannot hold, such as adapters, or that are missing."""
    network = transformer(source.description.architecture, Execution())
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    own = {tuple(key.key for key in path): leaf.shape for path, leaf in jax.tree.leaves_with_path(shapes)}
    for path in own.keys() | leaves.keys():
        found = leaves[path].shape if path in leaves else None
        if found != own.get(path):
            raise UserError(
                f"parameters {'/'.join(path)} of shape {found}; accepted: {own.get(path)}, as in {source.path}"
            )


def convert(
    path: str | pathlib.Path, folder: str | pathlib.Path, *, dtype: str = "", shard_bytes: int = SHARD_BYTES
) -> Source:
    """Copies a checkpoint to a Hugging Face folder, one tensor in memory at a time; a GGUF file is decoded.

    Raises:
        UserError: The checkpoint is damaged or not one of a network computed here, or the folder cannot be written.
    """
    source = open_source(pathlib.Path(path))
    stored = [
        Stored(slot.name, name, slot.shape, partial(_copy, source.tensors[slot.name], name))
        for slot, name in _names(source, dtype)
    ]
    _write(pathlib.Path(folder), source, stored, shard_bytes, None)
    return source


def _names(source: Source, dtype: str) -> list[tuple[Slot, str]]:
    """Each slot and the type that it is written in."""
    if dtype and dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}; accepted: {', '.join(DTYPES)}, or nothing to keep each tensor's own")
    slots = source.description.slots
    return [(slot, DTYPES[dtype] if dtype else source.tensors[slot.name].dtype) for slot in slots]


def _copy(tensor: Tensor, dtype: str) -> np.ndarray:
    # a copy, so that the file's pages can go
    values = np.array(tensor.read(), FLOATS[dtype], order="C")
    tensor.release()
    return values


def _write(
    folder: pathlib.Path,
    source: Source,
    stored: Sequence[Stored],
    shard_bytes: int,
    training: Mapping[str, Any] | None,
) -> None:
    check_new_folder(folder)
    with whole_folder(folder) as inside:
        _write_tensors(inside, stored, source.metadata | {"format": "pt"}, shard_bytes)
        config = source.config | _dtype_key(source, stored)
        files = source.files | {CONFIG: (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()}
        files |= records(source, training)
        for name, content in files.items():
            (inside / name).write_bytes(content)


def _write_tensors(folder: pathlib.Path, stored: Sequence[Stored], metadata: dict[str, str], shard_bytes: int) -> None:
    shards: list[list[Stored]] = [[]]
    room = shard_bytes
    for tensor in stored:
        if shards[-1] and tensor.num_bytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= tensor.num_bytes
    if len(shards) == 1:
        write_safetensors(folder / SINGLE, stored, metadata)
        return
    where = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / name, shard, metadata)
        where |= {tensor.name: name for tensor in shard}
    totals = {
        "total_parameters": sum(int(np.prod(tensor.shape, dtype=np.int64)) for tensor in stored),
        "total_size": sum(tensor.num_bytes for tensor in stored),
    }
    index = {"metadata": totals, "weight_map": dict(sorted(where.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _dtype_key(source: Source, stored: Sequence[Stored]) -> dict[str, Any]:
    """The type of the weights as transformers names it, where they have one type."""
    types = {tensor.dtype for tensor in stored}
    key = "torch_dtype" if "torch_dtype" in source.config else "dtype"
    return {key: PUBLISHED[types.pop()]} if len(types) == 1 and types <= PUBLISHED.keys() else {}
