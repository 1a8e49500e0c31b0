"""The position of every tensor of a checkpoint in the parameter tree, one table for reading and writing."""

import fnmatch
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.weights.tensors import FLOATS, Tensor, shown

View = Callable[[np.ndarray], np.ndarray]
Path = tuple[str, ...]
NAMED_IN_ERRORS = 4
PIECE = 2**24  # bytes
SQUARE = 256  # rows and columns


class Fill(NamedTuple):
    """One part of a leaf of the tree, as a view of a stored tensor.

    The view selects, reshapes and moves axes without copying, so that it can be assigned to when a checkpoint is
    written. Its values are those of the leaf in the leaf's order; its shape may split the leaf's axes.
    """

    path: Path  # of the leaf, such as ("blocks", "query", "kernel")
    layer: int | None  # index into the first axis of a leaf of blocks; None: a leaf of the ends
    view: View
    row: int = 0  # the first row of the leaf that is filled
    adds: bool = False  # the values are added to what is there


class Slot(NamedTuple):
    """A tensor that a checkpoint must have."""

    name: str
    shape: tuple[int, ...]
    fills: tuple[Fill, ...]


def transposed(stored: np.ndarray) -> np.ndarray:
    return stored.T


def unchanged(stored: np.ndarray) -> np.ndarray:
    return stored


def check_tensors(
    source: pathlib.Path, slots: Iterable[Slot], tensors: dict[str, Tensor], ignorable: Sequence[str]
) -> None:
    """Compares what is stored with what the network needs.

    Raises:
        UserError: Tensors are missing, extra, of another shape or of a type that holds no weights; all are counted.
    """
    expected = {slot.name: slot.shape for slot in slots}
    missing = [name for name in expected if name not in tensors]
    extra = [
        f"{shown(name)} in {tensor.file.name}"
        for name, tensor in tensors.items()
        if name not in expected and not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignorable)
    ]
    here = {name: tensor for name, tensor in tensors.items() if name in expected}
    misshapen = [
        f"{name} in {tensor.file.name}, {list(tensor.shape)} instead of {list(expected[name])}"
        for name, tensor in here.items()
        if tensor.shape != expected[name]
    ]
    types = [f"{name} in {t.file.name}, {t.dtype}" for name, t in here.items() if t.dtype not in FLOATS]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:NAMED_IN_ERRORS])}{', ...' * (len(names) > NAMED_IN_ERRORS)})"
        for what, names in (
            ("missing", missing),
            ("not of this architecture", extra),
            ("of another shape", misshapen),
            (f"of a type other than {', '.join(FLOATS)}", types),
        )
        if names
    ]
    if faults:
        raise UserError(f"{source}: tensors: {'; '.join(faults)}")


def fills_by_path(slots: Iterable[Slot]) -> dict[Path, list[tuple[Slot, Fill]]]:
    """For each leaf, all that fills it."""
    found: dict[Path, list[tuple[Slot, Fill]]] = {}
    for slot in slots:
        for fill in slot.fills:
            found.setdefault(fill.path, []).append((slot, fill))
    return found


def read_part(
    fills: Sequence[tuple[Slot, Fill]],
    tensors: dict[str, Tensor],
    shape: tuple[int, ...],
    index: tuple[slice, ...],
    dtype: Any,
) -> np.ndarray:
    """`leaf[index]` for a leaf of this shape: tensor after tensor, zeros where none fills it."""
    bounds = [part.indices(size)[:2] for part, size in zip(index, shape, strict=True)]
    out = _aligned(tuple(stop - start for start, stop in bounds), dtype)
    for slot, fill in fills:
        own, target, inside = bounds, out, shape
        if fill.layer is not None:
            start, stop = bounds[0]
            if not start <= fill.layer < stop:
                continue
            own, target, inside = bounds[1:], out[fill.layer - start], shape[1:]
        tensor = tensors[slot.name]
        seen = fill.view(tensor.read())
        values = seen.reshape(_fitted(seen, inside))
        start, stop = max(own[0][0], fill.row), min(own[0][1], fill.row + len(values))
        if start < stop:
            values = values[(slice(start - fill.row, stop - fill.row), *(slice(*bound) for bound in own[1:]))]
            _copy(values, target[start - own[0][0] : stop - own[0][0]], fill.adds, tensor)
        del seen, values
        tensor.release()
    return out


def _copy(values: np.ndarray, into: np.ndarray, adds: bool, tensor: Tensor) -> None:
    """Rows of a large tensor some at a time, so that few pages of its file are in memory besides its values."""
    if values.ndim > 1 and not values.flags.c_contiguous and not adds:
        return _copy_transposed(values, into)
    rows = len(values)
    if values.flags.c_contiguous and values.nbytes > PIECE:
        rows = max(PIECE * len(values) // values.nbytes, 1)
    for start in range(0, len(values), rows):
        piece = slice(start, start + rows)
        into[piece] = into[piece] + values[piece] if adds else values[piece]
        if rows < len(values):
            tensor.release()


def _copy_transposed(values: np.ndarray, into: np.ndarray) -> None:
    """Square by square, so that what is read along columns and written along rows stays in the processor's cache."""
    columns = max(SQUARE // math.prod(values.shape[2:]), 1)
    for row in range(0, len(values), SQUARE):
        for column in range(0, values.shape[1], columns):
            square = slice(row, row + SQUARE), slice(column, column + columns)
            into[square] = values[square].astype(into.dtype, order="K")  # converted in the order of the file


def write_slot(slot: Slot, leaves: dict[Path, Any], dtype: str) -> np.ndarray:
    """The stored tensor of a slot, from the leaves of the tree."""
    stored = np.empty(slot.shape, FLOATS[dtype])
    for fill in slot.fills:
        assert not fill.adds, slot.name
        into = fill.view(stored)
        leaf = leaves[fill.path]
        leaf = leaf if fill.layer is None else leaf[fill.layer]
        fitted = _fitted(into, leaf.shape)
        part = np.asarray(leaf[fill.row : fill.row + fitted[0]])
        into[...] = part.reshape(into.shape).astype(stored.dtype)
    return stored


def _fitted(view: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a view in the leaf's axes: those behind the first are whole."""
    return (view.size // max(math.prod(shape[1:]), 1), *shape[1:])


def _aligned(shape: tuple[int, ...], dtype: Any, to: int = 64) -> np.ndarray:
    """Zeros that begin at a multiple of 64 bytes: JAX then uses them on a CPU without a copy."""
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + to, np.uint8)
    offset = -raw.ctypes.data % to
    return raw[offset : offset + size].view(dtype).reshape(shape)
