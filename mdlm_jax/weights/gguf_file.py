"""The header of a GGUF file (version 3). Every length and count is compared with the bytes that are left.

The `gguf` library decodes the tensors. Its own reader believes the counts of a file, which a damaged one can set to
2^60, so the header is read here.
"""

import mmap
import pathlib
import struct
from functools import partial
from typing import Any, NamedTuple, NoReturn

import ml_dtypes
import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from mdlm_jax.errors import UserError
from mdlm_jax.weights.tensors import Tensor, map_file, release_pages, shown

MAGIC = b"GGUF"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
STORED = {"F32": "F32", "F16": "F16", "BF16": "BF16"}  # types that need no decoding, by their safetensors names


class GgufFile(NamedTuple):
    path: pathlib.Path
    keys: dict[str, Any]
    tensors: dict[str, Tensor]  # shapes slowest axis first, as numpy has them


class _Reader:
    """Takes one value after another; refuses to read behind the end."""

    def __init__(self, path: pathlib.Path, data: mmap.mmap):
        self.path, self.data, self.at = path, data, 0

    def fail(self, what: str) -> NoReturn:
        raise UserError(f"{self.path}: not a whole GGUF file: {shown(what, 240)}")

    def bytes(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.at:
            self.fail(f"{what} takes {count} bytes at {self.at}, the file ends at {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str, what: str) -> Any:
        return struct.unpack("<" + code, self.bytes(struct.calcsize("<" + code), what))[0]

    def text(self, what: str) -> str:
        try:
            return self.bytes(self.number("Q", what), what).decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8")

    def count(self, what: str, least_bytes: int) -> int:
        """A number of things, each of at least so many bytes."""
        count = self.number("Q", what)
        if count * least_bytes > len(self.data) - self.at:
            self.fail(f"{count} {what}, for which the file is too short")
        return count

    def value(self, kind: int, key: str) -> Any:
        if kind in SCALARS:
            return self.number(SCALARS[kind], key)
        if kind == STRING:
            return self.text(key)
        if kind != ARRAY:
            self.fail(f"{key} has type {kind}")
        inner = self.number("I", key)
        if inner == STRING:
            return [self.text(key) for _ in range(self.count(f"values of {key}", 8))]
        if inner not in SCALARS:
            self.fail(f"{key} is an array of type {inner}")
        size = struct.calcsize("<" + SCALARS[inner])
        count = self.count(f"values of {key}", size)
        return np.frombuffer(self.bytes(count * size, key), np.dtype(SCALARS[inner]).newbyteorder("<"))


def open_gguf_file(path: pathlib.Path) -> GgufFile:
    """Keys and tensors of a GGUF file; no tensor is decoded yet.

    Raises:
        UserError: The file is no GGUF, of another version, truncated, or its header contradicts it.
    """
    reader = _Reader(path, map_file(path))
    if reader.bytes(4, "the first word") != MAGIC:
        reader.fail("it does not begin with GGUF")
    version = reader.number("I", "the version")
    if version not in (2, 3):
        reader.fail(f"version {version}; accepted: 2, 3")
    num_tensors, num_keys = reader.count("tensors", 24), reader.count("keys", 13)
    keys: dict[str, Any] = {}
    for _ in range(num_keys):
        key = reader.text("a key")
        if key in keys:
            reader.fail(f"{key} is there twice")
        keys[key] = reader.value(reader.number("I", key), key)
    entries = [_entry(reader) for _ in range(num_tensors)]
    alignment = keys.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**20:
        reader.fail(f"general.alignment is {str(alignment)}")
    start = -(-reader.at // alignment) * alignment
    return GgufFile(path, keys, _tensors(reader, entries, start, alignment))


def _entry(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name = reader.text("the name of a tensor")
    dimensions = reader.number("I", name)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        reader.fail(f"{name} has {dimensions} dimensions")
    shape = tuple(reader.number("Q", name) for _ in range(dimensions))[::-1]
    return name, shape, reader.number("I", name), reader.number("Q", name)


def _tensors(reader: _Reader, entries: list, start: int, alignment: int) -> dict[str, Tensor]:
    tensors, end = {}, len(reader.data)
    ranges = []
    for name, shape, code, offset in entries:
        kind = GGMLQuantizationType(code) if code in GGMLQuantizationType._value2member_map_ else None
        if kind is None or kind not in GGML_QUANT_SIZES:
            reader.fail(f"{name} has type {code}")
        block, size = GGML_QUANT_SIZES[kind]
        count = 1
        for length in shape:
            count *= length  # Python's integers do not overflow
        if not count or shape[-1] % block:
            reader.fail(f"{name} has shape {list(shape)}, rows of whole blocks of {block} are accepted")
        first, num_bytes = start + offset, count // block * size
        if offset % alignment or first + num_bytes > end:
            reader.fail(f"{name} takes {num_bytes} bytes at {first}, the file ends at {end}")
        if name in tensors:
            reader.fail(f"{name} is there twice")
        ranges.append((first, first + num_bytes, name))
        read = partial(_decoded, reader.data, first, num_bytes, shape, kind)
        # what is decoded is float32
        dtype = STORED.get(kind.name, "F32" if kind in quants._type_traits else kind.name)
        tensors[name] = Tensor(
            reader.path, shape, dtype, read, partial(release_pages, reader.data, first, first + num_bytes)
        )
    ranges.sort()
    for (_, stop, one), (first, _, other) in zip(ranges, ranges[1:], strict=False):
        if first < stop:
            reader.fail(f"{one} and {other} overlap")
    return tensors


def _decoded(data: mmap.mmap, first: int, num_bytes: int, shape: tuple[int, ...], kind: GGMLQuantizationType):
    raw = np.frombuffer(data, np.uint8, num_bytes, first)
    if kind.name == "BF16":
        return raw.view(ml_dtypes.bfloat16).reshape(shape)
    if kind.name in STORED:
        return raw.view(np.float32 if kind.name == "F32" else np.float16).reshape(shape)
    block, size = GGML_QUANT_SIZES[kind]
    rows = raw.reshape(*shape[:-1], shape[-1] // block * size)
    return quants.dequantize(rows, kind).reshape(shape)
