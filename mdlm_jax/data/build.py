"""Tokenises a corpus once, in parallel, into the shards that `data.source='tokens'` reads."""

import functools
import json
import os
import pathlib
from typing import Any

import numpy as np
import rich.progress

from mdlm_jax.data.corpus import MANIFEST, VERSION, manifest_digest, open_streams
from mdlm_jax.data.digest import file_digests
from mdlm_jax.data.rows import Joined, Piece, batches, encode
from mdlm_jax.data.shards import open_writer, write_split
from mdlm_jax.data.sources import Documents, open_documents
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer
from mdlm_jax.data.workers import open_workers
from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home
from mdlm_jax.whole_folder import whole_folder


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
    """Tokenises a corpus and writes it to a new folder.

    The build writes everything to `output` + '.incomplete', the manifest last, reads it once more, and then renames the
    folder. A build that is killed or interrupted leaves no `output`, and the next one starts afresh; a build that fails
    leaves nothing. The shards do not depend on the number of workers.

    Args:
        output: The folder to make.
        source: `data.source`, with documents.
        path: `data.path`.
        validation_path: `data.validation_path`.
        field: `data.field`.
        tokenizer: `data.tokenizer`.
        workers: Processes that encode.

    Returns:
        The manifest.

    Raises:
        UserError: `output` exists or cannot be written, a file cannot be read, or a split has no text.
    """
    import tensorflow_datasets  # noqa: F401  imported first: during this import no other thread may import

    check_new(output)
    if workers < 1:
        raise UserError(f"--workers={workers}; accepted: 1 or more")
    opened = open_tokenizer(tokenizer)
    documents = open_documents(source, path, validation_path, field)
    columns = (*rich.progress.Progress.get_default_columns(), "{task.fields[tokens]:,} tokens")
    with rich.progress.Progress(*columns) as progress:
        totals = _characters(documents, progress)
        with whole_folder(output) as folder:
            counts = _write(folder, documents, totals, tokenizer, opened, workers, progress)
            return finish(
                folder,
                source={"source": source, "path": path, "validation_path": validation_path, "field": field},
                tokenizer={
                    "name": tokenizer,
                    "fingerprint": opened.fingerprint,
                    "vocab_size": opened.vocab_size,
                    "separator": opened.separator,
                },
                splits=counts,
                files=documents.files,
            )


def check_new(output: str | os.PathLike) -> None:
    """Raises UserError if there is something at `output`."""
    if expand_home(output).exists():
        raise UserError(f"--out={output} exists; accepted: the path of a new folder")


def finish(
    folder: pathlib.Path,
    *,
    source: dict[str, Any],
    tokenizer: dict[str, Any],
    splits: dict[str, dict[str, int]],
    files: tuple[pathlib.Path, ...],
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the manifest of a folder whose shards are written, and reads all once more.

    Args:
        folder: The folder.
        source: What was built.
        tokenizer: Its name, fingerprint, vocab_size and separator.
        splits: Counts of each split.
        files: What the corpus was read from.
        more: Further entries of the manifest.

    Returns:
        The manifest.
    """
    manifest = {
        "version": VERSION,
        "source": source,
        "tokenizer": tokenizer,
        "splits": splits,
        "shards": [{"name": file.name, "size": file.stat().st_size} for file in sorted(folder.glob("*.array_record*"))],
        "files": [
            {"path": str(file), "size": file.stat().st_size, "sha256": digest}
            for file, digest in zip(files, file_digests(files), strict=True)
        ],
        **(more or {}),
    }
    open_streams(folder, manifest)
    kept = manifest | {"sha256": manifest_digest(manifest)}
    (folder / MANIFEST).write_text(json.dumps(kept, indent=2), encoding="utf-8")
    return manifest


def _characters(documents: Documents, progress: rich.progress.Progress) -> dict[str, int]:
    """Characters of each split. This first pass finds damaged files before hours of encoding."""
    totals = {}
    for split, read in (("train", documents.train), ("validation", documents.validation)):
        task = progress.add_task(f"read {split}", total=None, tokens=0)
        totals[split] = sum(map(len, read()))
        progress.remove_task(task)
        if not totals[split]:
            raise UserError(f"the split {split!r} of the corpus has no text")
    return totals


def _write(
    folder: pathlib.Path,
    documents: Documents,
    totals: dict[str, int],
    tokenizer: str,
    opened: Tokenizer,
    workers: int,
    progress: rich.progress.Progress,
) -> dict[str, dict[str, int]]:
    """Writes the shards of both splits and returns their counts."""
    dtype = np.min_scalar_type(opened.vocab_size)
    writer = open_writer(folder, dtype)
    tasks = {split: progress.add_task(split, total=total, tokens=0) for split, total in totals.items()}
    counts = {}
    with open_workers(workers, functools.partial(_encode, tokenizer)) as in_order:
        for split, read in (("train", documents.train), ("validation", documents.validation)):
            joined = in_order(batches(read(), opened))
            counts[split] = write_split(writer, split, joined, dtype, functools.partial(progress.update, tasks[split]))
    writer.close_all()
    return counts


@functools.cache
def _tokenizer(name: str) -> Tokenizer:
    return open_tokenizer(name)


def _encode(tokenizer: str, batch: list[Piece]) -> Joined:
    return encode(batch, _tokenizer(tokenizer))
