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
from mdlm_jax.data.rows import join
from mdlm_jax.data.sources import Documents, open_documents
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer
from mdlm_jax.errors import UserError

TASK_CHARACTERS = 1 << 20  # handed to a worker at once
SHARD_RECORDS = 1 << 15  # 256 MiB of 16-bit tokens
WAITING_TASKS = 4  # for each worker: enough that none is idle, few enough that the corpus need not fit in memory


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
    """Writes the corpus to the folder `output` and returns its manifest; the keys mean what they do in `data`.

    All is written to `output` + '.incomplete', its manifest last, and then renamed: a build that was killed leaves no
    `output`, and starting it again begins afresh. The shards do not depend on the number of workers. Raises
    UserError when `output` exists, the text cannot be read, or a split is empty.
    """
    output = pathlib.Path(output).expanduser()
    if output.exists():
        raise UserError(f"{output} exists; a corpus is built into a new folder: remove it, or name another")
    if workers < 1:
        raise UserError(f"workers={workers}: at least 1")
    opened = open_tokenizer(tokenizer)
    documents = open_documents(source, path, validation_path, field)
    incomplete = output.with_name(output.name + ".incomplete")
    shutil.rmtree(incomplete, ignore_errors=True)
    incomplete.mkdir(parents=True)
    # Spawned, because a fork of a process in which JAX runs threads may never return.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin_worker) as pool:
        files = list(pool.map(_checksum, documents.files))
        tokenise = functools.partial(_in_order, pool, functools.partial(_tokenise, tokenizer), workers * WAITING_TASKS)
        splits = _write_splits(incomplete, documents, opened.vocab_size, tokenise)
    manifest = {
        "version": VERSION,
        "source": {"source": source, "path": path, "validation_path": validation_path, "field": field},
        "tokenizer": {
            "name": tokenizer,
            "fingerprint": opened.fingerprint,
            "vocab_size": opened.vocab_size,
            "separator": opened.separator,
        },
        "splits": splits,
        "files": files,
    }
    (incomplete / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    os.rename(incomplete, output)
    return manifest


def _write_splits(
    folder: pathlib.Path, documents: Documents, vocab_size: int, tokenise: Callable[[Iterable], Iterator]
) -> dict[str, dict[str, int]]:
    """Writes the records and counts what they hold.

    TFDS's GeneratorBasedBuilder keeps a split in memory until it is complete, and from 1 GB on needs TensorFlow, even
    with shuffling disabled; its sequential writer streams, in order, and leaves the same files.
    """
    # TFDS takes a second to import, which no worker needs.
    import tensorflow_datasets as tfds

    dtype = np.min_scalar_type(vocab_size)
    tokens = tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes")
    identity = tfds.core.dataset_info.DatasetIdentity(
        name="tokens", version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description="Consecutive pieces of a stream of tokens.",
        features=tfds.features.FeaturesDict({"tokens": tokens}),
        disable_shuffling=True,
    )
    writer = tfds.core.SequentialWriter(info, SHARD_RECORDS, file_format="array_record")
    split_documents = {"train": documents.train, "validation": documents.validation}
    writer.initialize_splits(list(split_documents))
    columns = ("{task.description}", rich.progress.BarColumn(), rich.progress.TaskProgressColumn())
    columns += (
        "{task.fields[tokens]:,} tokens",
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    splits = {}
    with rich.progress.Progress(*columns) as progress:
        for split, read in split_documents.items():
            # A first reading for the total finds damaged files before hours are spent on the sound ones.
            task = progress.add_task(split, total=sum(map(len, read())), tokens=0)
            counts = dict.fromkeys(("documents", "tokens", "bytes", "records"), 0)
            rest = np.empty(0, dtype)
            for batch, (ids, size) in tokenise(_tasks(read())):
                counts["documents"] += len(batch)
                counts["tokens"] += len(ids)
                counts["bytes"] += size
                stream = np.concatenate([rest, ids])
                whole = len(stream) // CHUNK
                chunks = stream[: whole * CHUNK].reshape(whole, CHUNK)
                writer.add_examples({split: [{"tokens": chunk} for chunk in chunks]})
                rest = stream[whole * CHUNK :]
                progress.update(task, advance=sum(map(len, batch)), tokens=counts["tokens"])
            if not counts["tokens"]:
                raise UserError(f"the split {split} of the corpus is empty")
            if len(rest):
                writer.add_examples({split: [{"tokens": rest}]})
            counts["records"] = -(-counts["tokens"] // CHUNK)
            splits[split] = counts
    writer.close_all()
    return splits


def _tasks(documents: Iterator[str]) -> Iterator[list[str]]:
    """Documents in lists of about TASK_CHARACTERS."""
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= TASK_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _in_order(pool: ProcessPoolExecutor, function: Callable, window: int, items: Iterable) -> Iterator[tuple[Any, Any]]:
    """(item, function(item)) in order, with at most `window` items under way: pool.map would read them all at once."""
    waiting = collections.deque()
    items = iter(items)
    for item in itertools.islice(items, window):
        waiting.append((item, pool.submit(function, item)))
    while waiting:
        item, future = waiting.popleft()
        yield item, future.result()
        for following in itertools.islice(items, 1):
            waiting.append((following, pool.submit(function, following)))


def _begin_worker() -> None:
    # A parent killed with SIGKILL cannot stop its workers: they watch for its end.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@functools.cache
def _tokenizer(name: str) -> Tokenizer:
    return open_tokenizer(name)


def _tokenise(tokenizer: str, documents: list[str]) -> tuple[np.ndarray, int]:
    return join(documents, _tokenizer(tokenizer))


def _checksum(file: pathlib.Path) -> dict[str, Any]:
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"path": str(file), "size": file.stat().st_size, "sha256": digest}
