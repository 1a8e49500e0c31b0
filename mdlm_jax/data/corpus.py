"""A tokenised corpus on disk: ArrayRecord shards that TFDS reads, and a manifest that is written last.

A record is CHUNK consecutive tokens of one endless stream, documents joined by the separator. That is neither a
document nor a row: a row of any length, chosen when training starts, is then two divisions and one or two small reads,
with no index of documents and no novel decoded for the sake of 64 tokens.
"""

import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Integer

from mdlm_jax.data.rows import Rows, Splits, row_count
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError

CHUNK = 4096
MANIFEST = "manifest.json"
VERSION = 1


def read_manifest(folder: str | pathlib.Path) -> dict[str, Any]:
    """What `build_corpus` wrote beside the shards. Raises UserError where it did not finish, or never began."""
    path = pathlib.Path(folder).expanduser() / MANIFEST
    if not path.is_file():
        raise UserError(
            f"data.path={str(folder)!r} is no finished corpus: it has no {MANIFEST}; run `mdlm-jax data build`"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); build the corpus again") from error
    if version != VERSION:
        raise UserError(f"{path} has version {version}, this program reads {VERSION}; build the corpus again")
    return manifest


def open_corpus(path: str, tokenizer: str, length: int) -> Splits:
    """Rows of `length` tokens from the folder of a finished corpus.

    Raises UserError when it is unfinished or damaged, or `tokenizer` is not the one it was built with.
    """
    import tensorflow_datasets as tfds

    manifest = read_manifest(path)
    opened = open_tokenizer(tokenizer)
    if opened.fingerprint != manifest["tokenizer"]["fingerprint"]:
        raise UserError(
            f"data.tokenizer={tokenizer!r}: {path} was built with {manifest['tokenizer']['name']!r}, another"
        )
    builder = tfds.builder_from_directory(pathlib.Path(path).expanduser())

    def rows(split: str) -> Rows:
        expected = manifest["splits"][split]
        chunks = builder.as_data_source(split)
        if len(chunks) != expected["records"]:
            raise UserError(
                f"{path}: {split} has {len(chunks)} records, the manifest {expected['records']}; build again"
            )
        count = row_count(expected["tokens"], length, f"{path}, {split}")
        return Rows(count, lambda numbers: _read(chunks, numbers, length))

    validation = manifest["splits"]["validation"]
    return Splits(rows("train"), rows("validation"), validation["bytes"] / validation["tokens"], opened)


def _read(chunks: Any, numbers: Integer[np.ndarray, "n"], length: int) -> Integer[np.ndarray, "n {length}"]:
    rows = []
    for start in numbers * length:
        first, last = start // CHUNK, (start + length - 1) // CHUNK
        stream = np.concatenate([chunks[chunk]["tokens"] for chunk in range(first, last + 1)])
        rows.append(stream[start - first * CHUNK :][:length])
    return np.stack(rows)
