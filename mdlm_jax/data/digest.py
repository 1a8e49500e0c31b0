"""The identity of a run's data: a digest of the corpus's content that does not depend on its path."""

import hashlib
import json
import os
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mdlm_jax.data.cache import cache_folder, keep
from mdlm_jax.data.captioned import CAPTIONED, layout_of
from mdlm_jax.data.compressed import kind
from mdlm_jax.data.corpus import read_manifest
from mdlm_jax.data.digits import load_digits
from mdlm_jax.data.files import expand, reads_field
from mdlm_jax.data.markov import parse_markov
from mdlm_jax.data.sources import open_documents
from mdlm_jax.errors import UserError

SMALL = 1 << 20  # bytes; to hash a smaller file is faster than to look it up in the cache
SETTLED_SECONDS = 2  # a file changed more recently may change again within the resolution of its clock


def corpus_digest(source: str, path: str, validation_path: str, field: str) -> str:
    """The digest of everything that decides which text (or tokens) a corpus holds.

    It depends on content alone: a corpus that was moved, or whose path is typed another way, keeps its digest. The
    tokenizer has a digest of its own, `Tokenizer.fingerprint`.

    Args:
        source: `data.source`.
        path: `data.path`.
        validation_path: `data.validation_path`.
        field: `data.field`; it counts where a file has fields.

    Returns:
        SHA-256, 64 hexadecimal digits.

    Raises:
        UserError: The corpus is not there or cannot be read.
    """
    content = json.dumps([source, _content(source, path, validation_path, field)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def file_digest(file: pathlib.Path) -> str:
    """SHA-256 of a file. The digest of a large file is cached until its size, a time stamp or its inode changes.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        return _file_digest(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from error


def _file_digest(file: pathlib.Path) -> str:
    status = file.stat()
    identity = (os.path.realpath(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    entry = cache_folder() / "digests" / hashlib.sha256(repr(identity).encode()).hexdigest()
    large = status.st_size >= SMALL
    if large and entry.is_file():
        return entry.read_text()
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if large and time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS:
        keep(entry, digest.encode())
    return digest


def _content(source: str, path: str, validation_path: str, field: str) -> Any:
    if source == "markov":
        return parse_markov(path)
    if source in ("tokens", "images"):
        manifest = read_manifest(path)
        tokenizer = {key: value for key, value in manifest["tokenizer"].items() if key != "name"}
        # the pictures themselves are many files
        content = [manifest["rows_sha256"]] if source == "images" else [file["sha256"] for file in manifest["files"]]
        return [manifest["version"], tokenizer, manifest["splits"], content]
    if source in CAPTIONED:
        layout = layout_of(source, path)
        return [layout, load_digits(layout.levels).digest] if source == "digits" else layout
    if source in ("text", "chat"):
        train = expand("data.path", path)
        validation = expand("data.validation_path", validation_path) if validation_path else ()
        kinds = [[kind(file) for file in files] for files in (train, validation)]
        fields = [field] if any(reads_field(file) for file in train + validation) else []
        return [kinds, fields, file_digests(train + validation)]
    documents = open_documents(source, path, validation_path, field)
    return (
        [validation_path, field, file_digests(documents.files)] if source == "tfds" else file_digests(documents.files)
    )


def file_digests(files: tuple[pathlib.Path, ...]) -> list[str]:
    """SHA-256 of each file."""
    with ThreadPoolExecutor() as threads:  # hashing large pieces releases the interpreter's lock
        return list(threads.map(file_digest, files))
