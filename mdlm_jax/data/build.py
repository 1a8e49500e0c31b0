"""Tokenises a corpus once, in parallel, into the shards that `data.source='tokens'` reads."""

import collections
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import rich.progress

from mdlm_jax.data.corpus import CHUNK, MANIFEST, VERSION
from mdlm_jax.data.rows import Joined, join
from mdlm_jax.data.sources import open_documents
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer
from mdlm_jax.errors import UserError

BATCH_CHARACTERS = 1 << 20  # handed to a worker at once
WAITING_BATCHES = 4  # a worker: enough that none is idle, few enough that the corpus need not fit in memory
SHARD_RECORDS = 1 << 15  # 256 MiB of 16-bit tokens


def build_corpus(
    output: str | os.PathLike,
    *,
    source: str,
    path: str,
    validation_path: str,
    field: str,
    tokenizer: str,
    workers: int,
) -> dict[str, Any]:
    """Writes the corpus to the folder `output` and returns its manifest; the other keys mean what they do in `data`.

    All is written to `output` + '.incomplete', its manifest last, and then renamed: a build that was killed leaves no
    `output`, and starting it again begins afresh. The shards do not depend on the number of workers. Raises
    UserError when `output` exists, a file cannot be read, or a split has no text.
    """
    output = pathlib.Path(output).expanduser()
    if output.exists():
        raise UserError(f"{output} exists; a corpus is built into a new folder: remove it, or name another")
    if workers < 1:
        raise UserError(f"workers={workers}: at least 1")
    opened = open_tokenizer(tokenizer)
    documents = open_documents(source, path, validation_path, field)
    splits = {"train": documents.train, "validation": documents.validation}
    columns = (*rich.progress.Progress.get_default_columns(), "{task.fields[tokens]:,} tokens")
    with rich.progress.Progress(*columns) as progress:
        tasks = {split: progress.add_task(split, total=None, tokens=0) for split in splits}
        # A first reading for the totals finds damaged files before hours are spent on the sound ones.
        for split, read in splits.items():
            total = sum(map(len, read()))
            if not total:
                raise UserError(f"the split {split!r} of the corpus has no text")
            progress.update(tasks[split], total=total)

        incomplete = output.with_name(output.name + ".incomplete")
        shutil.rmtree(incomplete, ignore_errors=True)
        incomplete.mkdir(parents=True)
        dtype = np.min_scalar_type(opened.vocab_size)
        writer = _open_writer(incomplete, list(splits), dtype)
        # Spawned, because a fork of a process in which JAX runs threads may never return.
        context = multiprocessing.get_context("spawn")
        counts = {}
        with ProcessPoolExecutor(workers, context, initializer=_watch_parent) as pool:
            files = list(pool.map(_checksum, documents.files))
            for split, read in splits.items():
                batches = _in_order(pool, functools.partial(_tokenise, tokenizer), _batches(read()), workers)
                report = functools.partial(progress.update, tasks[split])
                counts[split] = _write_split(writer, split, batches, dtype, report)
        writer.close_all()

    manifest = {
        "version": VERSION,
        "source": {"source": source, "path": path, "validation_path": validation_path, "field": field},
        "tokenizer": {
            "name": tokenizer,
            "fingerprint": opened.fingerprint,
            "vocab_size": opened.vocab_size,
            "separator": opened.separator,
        },
        "splits": counts,
        "files": files,
    }
    (incomplete / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    os.rename(incomplete, output)
    return manifest


def _open_writer(folder: pathlib.Path, splits: list[str], dtype: np.dtype) -> Any:
    """TFDS's sequential writer, which leaves a folder like any TFDS builder's.

    Its GeneratorBasedBuilder holds a split in memory until it is complete, and from 1 GB on needs TensorFlow, with
    shuffling disabled as well; this one streams, in order.
    """
    # TFDS takes a second to import, which no worker needs.
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
    writer.initialize_splits(splits)
    return writer


def _write_split(
    writer: Any, split: str, batches: Iterator, dtype: np.dtype, report: Callable[..., None]
) -> dict[str, int]:
    """Writes the tokens of (documents, Joined) in records of CHUNK, the last one shorter; counts them all."""
    counts = dict.fromkeys(("documents", "skipped", "tokens", "bytes", "records"), 0)
    rest = np.empty(0, dtype)

    def add(records: np.ndarray) -> None:
        writer.add_examples({split: [{"tokens": record} for record in records]})
        counts["records"] += len(records)

    for documents, joined in batches:
        stream = np.concatenate([rest, joined.tokens])
        whole = len(stream) // CHUNK * CHUNK
        add(stream[:whole].reshape(-1, CHUNK))
        rest = stream[whole:]
        counts["documents"] += joined.documents
        counts["skipped"] += joined.skipped
        counts["tokens"] += len(joined.tokens)
        counts["bytes"] += joined.bytes
        report(advance=sum(map(len, documents)), tokens=counts["tokens"])
    if len(rest):
        add(rest[None])
    return counts


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    """Documents in lists of about BATCH_CHARACTERS."""
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _in_order(
    pool: ProcessPoolExecutor, function: Callable, items: Iterable, workers: int
) -> Iterator[tuple[Any, Any]]:
    """(item, function(item)) in order, with few items under way: pool.map would read them all at once."""
    waiting = collections.deque()
    items = iter(items)
    for item in itertools.islice(items, workers * WAITING_BATCHES):
        waiting.append((item, pool.submit(function, item)))
    while waiting:
        item, future = waiting.popleft()
        yield item, future.result()
        for following in itertools.islice(items, 1):
            waiting.append((following, pool.submit(function, following)))


def _watch_parent() -> None:
    """A parent killed with SIGKILL cannot stop its workers, so they end themselves."""

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@functools.cache
def _tokenizer(name: str) -> Tokenizer:
    return open_tokenizer(name)


def _tokenise(tokenizer: str, documents: list[str]) -> Joined:
    return join(documents, _tokenizer(tokenizer))


def _checksum(file: pathlib.Path) -> dict[str, Any]:
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"path": str(file), "size": file.stat().st_size, "sha256": digest}
