"""The tensors of a Hugging Face folder: one safetensors file, or shards with an index."""

import pathlib

from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home
from mdlm_jax.weights.safetensors_file import open_safetensors
from mdlm_jax.weights.settings import read_json
from mdlm_jax.weights.tensors import Tensor, shown

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


def open_tensors(folder: pathlib.Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of the folder by name, and the metadata of its (first) file.

    Raises:
        UserError: The folder has no tensors, or its index and files disagree.
    """
    if (folder / SINGLE).exists():
        return open_safetensors(folder / SINGLE)
    if (folder / INDEX).exists():
        return _open_shards(folder, folder / INDEX)
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return open_safetensors(files[0])
    if files:
        raise UserError(f"{folder}: {len(files)} safetensors files without {INDEX}; accepted: one, or an index")
    for pattern in PICKLES:
        for file in sorted(folder.glob(pattern)):
            raise UserError(f"{file}: a pickle, which could run code, is never read; accepted: safetensors or GGUF")
    raise UserError(f"{folder}: no weights; accepted: {SINGLE}, or {INDEX} with its files")


def _open_shards(folder: pathlib.Path, index: pathlib.Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index}: weight_map is not an object of tensor names and files")
    files = dict.fromkeys(map(str, where.values()))
    for file in files:
        # a name with a folder in it could lead anywhere
        if pathlib.PurePath(file).name != file or not file.endswith(".safetensors"):
            raise UserError(f"{index}: {shown(file)!r} is not the name of a safetensors file in the same folder")
        if not (folder / file).is_file():
            raise UserError(f"{folder / file}: no such file, which {index.name} names")
    tensors, metadata = {}, {}
    for file in files:
        found, metadata_here = open_safetensors(folder / file)
        metadata = metadata or metadata_here
        for name, tensor in found.items():
            if where.get(name) != file:
                raise UserError(f"{folder / file}: {shown(name)} is in this file, and {index.name} does not say so")
            tensors[name] = tensor
    for name, file in where.items():
        if name not in tensors:
            raise UserError(f"{folder / str(file)}: {shown(name)} is missing, which {index.name} says is in this file")
    return tensors, metadata


def check_new_folder(folder: pathlib.Path) -> None:
    """Raises UserError if there is a file at `folder`, or a folder that is not empty."""
    folder = expand_home(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: already exists; accepted: a new or empty folder")
