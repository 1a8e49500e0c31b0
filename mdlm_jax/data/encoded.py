"""The tokens of a text corpus, encoded once: later starts read them from the cache."""

import hashlib
import io
import json
import os
import pathlib
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from mdlm_jax.data.cache import cache_folder, keep
from mdlm_jax.data.digest import corpus_digest
from mdlm_jax.data.rows import Joined, join
from mdlm_jax.data.sources import Documents, open_documents
from mdlm_jax.data.tokenizer import BUILT_IN_FILE, Tokenizer

VERSION = 2  # of the way text is encoded: another one leaves what is kept behind
SMALL = 1 << 18  # tokens that are encoded sooner than their entry in the cache is found
KEPT_BYTES = 8 << 30  # of all entries; the one whose last use is longest ago goes first


class Encoded(NamedTuple):
    """Both splits of a corpus."""

    train: Joined
    validation: Joined


_last: dict[Hashable, Encoded] = {}  # the corpus that this process read last


def encode_documents(source: str, path: str, validation_path: str, field: str, tokenizer: Tokenizer) -> Encoded:
    """Encodes both splits of a source of documents, or reads them from the cache.

    The digests of the corpus and of the tokenizer name an entry of the cache.

    Raises:
        UserError: The corpus cannot be read.
    """
    documents = open_documents(source, path, validation_path, field)
    if BUILT_IN_FILE in tokenizer.files:  # its ids are the text itself
        return _in_memory(documents, (source, path, validation_path, field), tokenizer)
    identity = (VERSION, corpus_digest(source, path, validation_path, field), tokenizer.fingerprint)
    entry = cache_folder() / "tokens" / hashlib.sha256(repr(identity).encode()).hexdigest()
    kept = _read(entry)
    if kept is None:
        kept = Encoded(join(documents.train(), tokenizer), join(documents.validation(), tokenizer))
        _write(entry, kept)
    return kept


def _in_memory(documents: Documents, corpus: tuple[str, ...], tokenizer: Tokenizer) -> Encoded:
    """The last corpus stays in memory, for the next run of this process, until one of its files changes."""
    states = [file.stat() for file in documents.files]
    known = [(it.st_size, it.st_mtime_ns, it.st_ctime_ns, it.st_ino) for it in states]
    key = (tokenizer.fingerprint, corpus, documents.files, *known)
    if key not in _last:
        _last.clear()  # before the next is read: both may be large
        _last[key] = Encoded(join(documents.train(), tokenizer), join(documents.validation(), tokenizer))
    return _last[key]


def _read(entry: pathlib.Path) -> Encoded | None:
    """The arrays stay on the disk. None where the entry is missing or damaged."""
    try:
        counts = json.loads(entry.with_suffix(".json").read_bytes())
        tokens = np.asarray(np.load(entry.with_suffix(".npy"), mmap_mode="r"))
        first = counts[0][0]
        if len(tokens) != first + counts[1][0]:
            return None
        os.utime(entry.with_suffix(".json"))
        parts = (tokens[:first], tokens[first:])
        return Encoded(*(Joined(part, *rest) for part, (_, *rest) in zip(parts, counts, strict=True)))
    except (OSError, EOFError, ValueError, TypeError, IndexError):
        return None


def _write(entry: pathlib.Path, encoded: Encoded) -> None:
    """The counts come last: they say that the tokens are whole."""
    tokens = np.concatenate([part.tokens for part in encoded])
    if not SMALL <= len(tokens) <= KEPT_BYTES // tokens.itemsize:
        return
    content = io.BytesIO()
    np.save(content, tokens)
    keep(entry.with_suffix(".npy"), content.getvalue())
    counts = [[len(part.tokens), *part[1:]] for part in encoded]
    keep(entry.with_suffix(".json"), json.dumps(counts).encode())
    _forget(entry.parent)


def _forget(folder: pathlib.Path) -> None:
    """Removes the oldest entries beyond KEPT_BYTES. A process that reads one keeps its file until it ends."""
    try:
        entries = sorted(folder.glob("*.json"), key=lambda entry: entry.stat().st_mtime, reverse=True)
        size = 0
        for entry in entries:
            size += entry.with_suffix(".npy").stat().st_size
            if size > KEPT_BYTES:
                entry.unlink()
                entry.with_suffix(".npy").unlink()
    except OSError:  # another process removes them too
        pass
