"""Text files by name: what globs and folders name, and their documents, compressed or not."""

import glob
import lzma
import pathlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from mdlm_jax.data.compressed import COMPRESSED, kind, open_stream
from mdlm_jax.data.readers import json_lines, parquet_rows, read_json, read_jsonl, read_parquet, read_tar, read_txt
from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home

STREAMED = {".txt": read_txt, ".jsonl": read_jsonl, ".json": read_json, ".tar": read_tar}
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)  # errors of reading a file
ACCEPTED = f"{', '.join(STREAMED)} (each also as {', '.join(COMPRESSED)}) and .parquet"


def expand(key: str, patterns: str) -> tuple[pathlib.Path, ...]:
    """Lists the files that comma-separated globs, files and folders name.

    Args:
        key: The config key that holds `patterns`, for errors.
        patterns: A folder stands for all files below it whose kind is accepted, hidden ones excepted.

    Returns:
        The files, sorted within a glob or folder, each once.

    Raises:
        UserError: A pattern names nothing, or a file of a kind that is not accepted.
    """
    files = []
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        found = _expand_one(expand_home(pattern))
        if not found:
            raise UserError(f"{key}: no file matches {pattern!r}; accepted are {ACCEPTED}")
        files += found
    if not files:
        raise UserError(f"{key} is empty; accepted: comma-separated globs such as 'corpus/*.txt,more.jsonl.gz'")
    for file in files:
        if not _accepted(file):
            raise UserError(f"{key}: {file} is of an unknown kind; accepted are {ACCEPTED}")
    return tuple(dict.fromkeys(files))


def _expand_one(pattern: pathlib.Path) -> list[pathlib.Path]:
    if pattern.is_file():  # its name may hold characters that mean something in a glob
        return [pattern]
    if pattern.is_dir():
        below = map(pathlib.Path, sorted(glob.glob(f"{glob.escape(str(pattern))}/**/*", recursive=True)))
        return [file for file in below if file.is_file() and _accepted(file)]
    return [file for file in map(pathlib.Path, sorted(glob.glob(str(pattern), recursive=True))) if file.is_file()]


def read_files(files: tuple[pathlib.Path, ...], field: str) -> Iterator[str]:
    """The documents of the files, in order; '' for a row without text.

    Raises:
        UserError: A file has no text or cannot be read.
    """
    for file in files:
        some = False
        try:
            for document in _documents(file, field):
                some = some or bool(document)
                yield document
        except DAMAGED as error:
            raise UserError(f"{file} cannot be read ({error})") from error
        if not some:
            raise UserError(f"{file} is empty: it holds no text")


def read_rows(key: str, patterns: str) -> Iterator[tuple[str, Any]]:
    """The rows of .jsonl files, compressed or not, and of .parquet files, as (file and line, value).

    Args:
        key: The key or option that holds `patterns`, for errors.
        patterns: As in `expand`.

    Raises:
        UserError: A file is of another kind or cannot be read, or a line is not JSON.
    """
    for file in expand(key, patterns):
        if file.suffix == ".parquet":
            yield from parquet_rows(file)
            continue
        if kind(file) != ".jsonl":
            accepted = ".jsonl, compressed or not, one object a line, and .parquet"
            raise UserError(f"{key}: {file} is no .jsonl file; accepted: {accepted}")
        try:
            with open_stream(file, file.suffix) as stream:
                yield from json_lines(stream, str(file))
        except DAMAGED as error:
            raise UserError(f"{file} cannot be read ({error})") from error


def reads_field(file: pathlib.Path) -> bool:
    """Whether the documents of this file are in a field of its rows."""
    return kind(file) != ".txt"


def _accepted(file: pathlib.Path) -> bool:
    return kind(file) in STREAMED or file.suffix == ".parquet"


def _documents(file: pathlib.Path, field: str) -> Iterator[str]:
    if file.suffix == ".parquet":
        yield from read_parquet(file, field)
        return
    with open_stream(file, file.suffix) as stream:
        yield from STREAMED[kind(file)](stream, str(file), field)
