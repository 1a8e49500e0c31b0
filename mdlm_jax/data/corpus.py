"""A tokenised corpus on disk: ArrayRecord shards that TFDS reads, and a manifest that is written last.

Documents are joined by the separator into one stream, and each record holds CHUNK consecutive tokens of it. The length
of a row is chosen when training starts: to read a row takes two divisions and one or two small reads. No index of
documents is needed, and no long document is decoded for a short row.
"""

import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from mdlm_jax.data.rows import Rows, Splits, row_count
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError, one_line
from mdlm_jax.files import expand_home

CHUNK = 4096
MANIFEST = "manifest.json"
VERSION = 1
SPLITS = ("train", "validation")


def read_manifest(folder: str | pathlib.Path) -> dict[str, Any]:
    """Reads and checks the manifest that `build_corpus` wrote.

    Raises:
        UserError: The folder holds no finished corpus, or the manifest is damaged or of another version.
    """
    path = expand_home(folder) / MANIFEST
    if not path.is_file():
        raise UserError(
            f"data.path={str(folder)!r} is no finished corpus: it has no {MANIFEST}; run `mdlm-jax data build`"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["version"]
        if version == VERSION:
            kept = manifest.pop("sha256", None)  # corpora of earlier versions lack it
            _check_manifest(manifest)
            if kept not in (None, manifest_digest(manifest)):
                raise ValueError("its sha256 is another")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}); build the corpus again") from error
    if version != VERSION:
        raise UserError(f"{path} has version {version}, this program reads {VERSION}; build the corpus again")
    return manifest


def manifest_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of the values, which finds a wrong count that looks right: bits per byte are computed with counts."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def open_corpus(path: str, tokenizer: str, length: int) -> Splits:
    """Rows of `length` tokens from the folder of a finished corpus.

    Raises:
        UserError: The corpus is unfinished or damaged, or `tokenizer` is not the one it was built with.
    """
    manifest = read_manifest(path)
    opened = open_tokenizer(tokenizer)
    if opened.fingerprint != manifest["tokenizer"]["fingerprint"]:
        raise UserError(
            f"data.tokenizer={tokenizer!r}: {path} was built with {manifest['tokenizer']['name']!r}, another"
        )
    train, held_out = rows_of_streams(path, manifest, open_streams(path, manifest), length)
    validation = manifest["splits"]["validation"]
    return Splits(train, held_out, validation["bytes"] / validation["tokens"], opened)


def rows_of_streams(
    path: str, manifest: dict[str, Any], streams: dict[str, "Stream"], length: int
) -> tuple[Rows, Rows]:
    """Training and held-out rows of `length` tokens.

    Raises:
        UserError: A split has fewer tokens than one row.
    """

    def rows(split: str) -> Rows:
        count = row_count(manifest["splits"][split]["tokens"], length, f"{path}, {split}")
        return Rows(count, lambda numbers: _read_rows(streams[split], numbers, length))

    return rows("train"), rows("validation")


class Stream(NamedTuple):
    """The tokens of one split, in records of CHUNK."""

    name: str  # folder and split, for errors
    records: Any  # a TFDS data source
    vocab_size: int


def open_streams(folder: str | pathlib.Path, manifest: dict[str, Any]) -> dict[str, Stream]:
    """Opens the shards of every split.

    Args:
        folder: The corpus.
        manifest: The result of `read_manifest`.

    Raises:
        UserError: A shard is missing or damaged, or does not match the manifest.
    """
    import tensorflow_datasets as tfds

    root = expand_home(folder)
    for shard in manifest.get("shards", ()):  # corpora of earlier versions do not list them
        file = root / shard["name"]
        size = file.stat().st_size if file.is_file() else None
        if size != shard["size"]:
            found = "is missing" if size is None else f"has {size:,} bytes instead of {shard['size']:,}"
            raise UserError(f"{file} {found}; build the corpus again")
    vocab_size = manifest["tokenizer"]["vocab_size"]
    try:
        builder = tfds.builder_from_directory(root)
        feature = builder.info.features["tokens"]
        if feature.shape != (None,) or feature.np_dtype != np.min_scalar_type(vocab_size):
            raise ValueError(f"its tokens are {feature}")
        records = {split: builder.as_data_source(split) for split in SPLITS}
    except Exception as error:  # TFDS raises one type a cause, with no base of their own
        raise UserError(f"{folder}: its TFDS files are damaged ({one_line(error)}); build the corpus again") from error
    streams = {split: Stream(f"{folder}: {split}", records[split], vocab_size) for split in SPLITS}
    for split, stream in streams.items():
        _check_stream(stream, manifest["splits"][split]["tokens"])
    return streams


def _read_record(stream: Stream, record: int) -> Integer[np.ndarray, "n"]:
    try:
        return stream.records[record]["tokens"]
    except Exception as error:  # ArrayRecord raises one type a cause, with no base of their own
        what = f"record {record} cannot be read ({one_line(error)})"
        raise UserError(f"{stream.name}: {what}; build the corpus again") from error


def _check_stream(stream: Stream, tokens: int) -> None:
    """Checks the number of tokens and the vocabulary of a stream, by its first and last record."""
    count = -(-tokens // CHUNK)
    if len(stream.records) != count:
        found = f"{stream.name} has {len(stream.records)} records, the manifest {count}"
        raise UserError(f"{found}; build the corpus again")
    for record, size in ((0, min(tokens, CHUNK)), (count - 1, tokens - (count - 1) * CHUNK)):
        read = _read_record(stream, record)
        if len(read) != size or read.max() >= stream.vocab_size:
            raise UserError(f"{stream.name}: record {record} is not what the manifest counts; build the corpus again")


def _read_rows(stream: Stream, numbers: Integer[np.ndarray, "n"], length: int) -> Integer[np.ndarray, "n {length}"]:
    rows = []
    for start in numbers * length:
        first, last = start // CHUNK, (start + length - 1) // CHUNK
        tokens = np.concatenate([_read_record(stream, record) for record in range(first, last + 1)])
        rows.append(tokens[start - first * CHUNK :][:length])
    return np.stack(rows)


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Raises an error where a value that this program reads is missing or of another type."""
    expected = {"fingerprint": str, "vocab_size": int, "name": str}
    counted = {"tokens": int, "bytes": int, "records": int}
    sized = {"name": str, "size": int}
    for values, types in [
        (manifest["tokenizer"], expected),
        *((manifest["splits"][split], counted) for split in SPLITS),
        *((file, {"sha256": str}) for file in manifest["files"]),
        *((shard, sized) for shard in manifest.get("shards", ())),
    ]:
        for key, kind in types.items():
            if type(values[key]) is not kind or (kind is int and values[key] < 1):
                raise ValueError(f"{key} is {values[key]!r}")
