"""A stored tensor: known by its header, read when it is needed."""

import mmap
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from mdlm_jax.errors import UserError

# names of safetensors for what a weight may be stored in
FLOATS: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # what a folder may be written in
NAMES = {dtype: name for name, dtype in FLOATS.items()}


def dtype_name(dtype: np.dtype) -> str:
    """The name that safetensors has for a floating-point type."""
    return NAMES[dtype]


class Tensor(NamedTuple):
    """`read` gives the values, mostly a view of the mapped file; `release` lets the file's pages go after use."""

    file: pathlib.Path
    shape: tuple[int, ...]
    dtype: str  # a key of FLOATS, or the name of another type, which no weight may have
    read: Callable[[], np.ndarray]
    release: Callable[[], None] = lambda: None


def map_file(path: pathlib.Path) -> mmap.mmap:
    """The file as read-only memory.

    Raises:
        UserError: The file is missing, empty or unreadable.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # nothing can be mapped
        raise UserError(f"{path}: the file is empty") from error


def release_pages(mapped: mmap.mmap, start: int, stop: int) -> None:
    """Takes the pages of these bytes out of this process's memory; they are read again where they are needed."""
    first = start - start % mmap.PAGESIZE
    if hasattr(mmap, "MADV_DONTNEED") and stop > first:
        mapped.madvise(mmap.MADV_DONTNEED, first, stop - first)


def shown(text: str, length: int = 100) -> str:
    """A name out of a file as one line of an error: no line breaks, and not too long."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= length else text[: length - 3] + "..."
