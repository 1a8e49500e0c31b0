"""Writes a stream of tokens as ArrayRecord shards, in a folder that TFDS reads like that of any builder."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mdlm_jax.data.corpus import CHUNK, SPLITS
from mdlm_jax.data.rows import Joined, Piece

SHARD_RECORDS = 1 << 15  # 256 MiB of 16-bit tokens


def open_writer(folder: pathlib.Path, dtype: np.dtype) -> Any:
    """TFDS's sequential writer, which streams records in order.

    TFDS's GeneratorBasedBuilder would hold a split in memory until it is complete, and above 1 GB it needs TensorFlow,
    even with shuffling disabled.

    Args:
        folder: The folder of the shards.
        dtype: Type of the tokens.
    """
    # TFDS takes a second to import, and no worker needs it
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name="tokens", version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=__name__
    )
    tokens = tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes")
    info = tfds.core.DatasetInfo(
        builder=identity,
        description="Consecutive pieces of a stream of tokens.",
        features=tfds.features.FeaturesDict({"tokens": tokens}),
        disable_shuffling=True,
    )
    writer = tfds.core.SequentialWriter(info, SHARD_RECORDS, file_format="array_record")
    writer.initialize_splits(list(SPLITS))
    return writer


def write_split(
    writer: Any, split: str, batches: Iterator[tuple[list[Piece], Joined]], dtype: np.dtype, report: Callable[..., None]
) -> dict[str, int]:
    """Writes one split in records of CHUNK tokens, the last one shorter.

    Args:
        writer: The result of `open_writer`.
        split: The split's name.
        batches: Pieces of documents and what they are joined.
        dtype: Type of the tokens.
        report: Called after every batch with `advance` (its characters) and `tokens` (so far).

    Returns:
        Counts of documents, skipped rows, tokens, bytes of text and records.
    """
    counts: dict[str, int] = dict.fromkeys(("documents", "skipped", "tokens", "bytes", "records"), 0)
    rest = np.empty(0, dtype)

    def add(records: np.ndarray) -> None:
        writer.add_examples({split: [{"tokens": record} for record in records]})
        counts["records"] += len(records)

    for batch, joined in batches:
        records, rest = whole_records(np.concatenate([rest, joined.tokens]))
        add(records)
        counts["documents"] += joined.documents
        counts["skipped"] += joined.skipped
        counts["tokens"] += len(joined.tokens)
        counts["bytes"] += joined.bytes
        report(advance=sum(len(piece.text) for piece in batch), tokens=counts["tokens"])
    if len(rest):
        add(rest[None])
    return counts


def whole_records(stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The records of CHUNK tokens at the beginning of a stream, and the tokens that are left."""
    whole = len(stream) // CHUNK * CHUNK
    return stream[:whole].reshape(-1, CHUNK), stream[whole:]
