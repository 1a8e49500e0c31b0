"""Files of safetensors: the library checks a header, tensors are views of the mapped file."""

import json
import os
import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import safetensors

from mdlm_jax.errors import UserError
from mdlm_jax.weights.tensors import FLOATS, NAMES, Tensor, map_file, release_pages, shown

LENGTH = 8  # bytes that hold the length of the header, little-endian


def open_safetensors(path: pathlib.Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, and its metadata. No tensor is read yet.

    Raises:
        UserError: The header is truncated, contradicts itself or the file, or names a tensor twice.
    """
    mapped = map_file(path)
    try:
        with safetensors.safe_open(path, framework="np") as checked:
            metadata = checked.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file ({shown(str(error), 160)})") from error
    start = LENGTH + int.from_bytes(mapped[:LENGTH], "little")
    try:
        header = json.loads(mapped[LENGTH:start], object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a safetensors file ({shown(str(error), 160)})") from error
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = (start + offset for offset in entry["data_offsets"])
        shape, dtype = tuple(entry["shape"]), entry["dtype"]
        read = partial(_view, mapped, first, shape, dtype)
        tensors[name] = Tensor(path, shape, dtype, read, partial(release_pages, mapped, first, last))
    return tensors, metadata


def _view(mapped, first: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(mapped, FLOATS[dtype], count, first).reshape(shape)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


class Stored(NamedTuple):
    """A tensor that is to be written; `make` gives its values when its turn comes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * FLOATS[self.dtype].itemsize


def write_safetensors(path: pathlib.Path, tensors: Sequence[Stored], metadata: dict[str, str]) -> None:
    """Writes the tensors one after another, so that only one is in memory; the library would need all at once.

    Wider types come first and names are in order, as the library writes them.
    """
    ordered = sorted(tensors, key=lambda tensor: (-FLOATS[tensor.dtype].itemsize, tensor.dtype, tensor.name))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for tensor in ordered:
        offsets = [end, end + tensor.num_bytes]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH, "little") + text)
        for tensor in ordered:
            made = tensor.make()
            assert made.shape == tensor.shape and NAMES[made.dtype] == tensor.dtype, tensor.name
            # The bytes of a transposed or strided array are not in the order of its values. `save_file` of
            # safetensors 0.8.0 writes those bytes as they are, without an error (0.7.0 did not): the file then has the
            # right shape and wrong values. A copy in C order has the values in order.
            values = np.ascontiguousarray(made)
            file.write(values.view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
