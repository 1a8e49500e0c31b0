"""Documents from files: .txt, .jsonl and .parquet, the first two also compressed. Every error names its file."""

import glob
import gzip
import itertools
import json
import lzma
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

from mdlm_jax.errors import UserError

BETWEEN_DOCUMENTS = "\n\f\n"
OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def expand(key: str, patterns: str) -> tuple[pathlib.Path, ...]:
    """The files that comma-separated globs name: in sorted order within a glob, each once.

    Raises UserError, with the config `key`, where a glob matches nothing or a file of another kind.
    """
    files = []
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        expanded = str(pathlib.Path(pattern).expanduser())
        found = sorted(name for name in glob.glob(expanded, recursive=True) if pathlib.Path(name).is_file())
        if not found:
            raise UserError(f"{key}: no file matches {pattern!r}")
        files += map(pathlib.Path, found)
    if not files:
        raise UserError(f"{key} is empty; accepted: comma-separated globs such as 'corpus/*.txt,more.jsonl.gz'")
    for file in files:
        if kind(file) not in READERS:
            raise UserError(f"{key}: {file} is neither .txt, .jsonl (plain, .gz or .xz) nor .parquet")
    return tuple(dict.fromkeys(files))


def read_files(files: tuple[pathlib.Path, ...], field: str) -> Iterator[str]:
    """Documents in order, the empty ones left out. Raises UserError where a file has none, or cannot be read."""
    for file in files:
        documents = filter(None, READERS[kind(file)](file, field))
        first = next(documents, None)
        if first is None:
            raise UserError(f"{file} is empty: it holds no text")
        yield from itertools.chain([first], documents)


def as_text(where: str | pathlib.Path, content: Any) -> str:
    """The text of a str or of UTF-8 bytes. Raises UserError, with `where`, for other bytes and other types."""
    if isinstance(content, str):
        return content
    if not isinstance(content, bytes):
        raise UserError(f"{where}: expected text, found {type(content).__name__}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8: byte {error.start} ({error.reason})") from error


def reads_field(file: pathlib.Path) -> bool:
    """Whether the documents of this file stand in a field."""
    return kind(file) != ".txt"


def kind(file: pathlib.Path) -> str:
    """'.txt' for corpus.txt and for corpus.txt.xz."""
    return pathlib.Path(file.stem).suffix if file.suffix in OPENERS else file.suffix


def _lines(file: pathlib.Path) -> Iterator[bytes]:
    try:
        with OPENERS.get(file.suffix, open)(file, "rb") as lines:
            yield from lines
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{file} cannot be read ({error})") from error


def _txt(file: pathlib.Path, field: str) -> Iterator[str]:
    yield from as_text(file, b"".join(_lines(file))).split(BETWEEN_DOCUMENTS)


def _jsonl(file: pathlib.Path, field: str) -> Iterator[str]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(as_text(f"{file}, line {number},", line))
        except json.JSONDecodeError as error:
            raise UserError(f"{file}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            raise UserError(f"{file}, line {number}: no text in data.field={field!r}")
        yield row[field]


def _parquet(file: pathlib.Path, field: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        columns = table.schema_arrow.names
        if field not in columns:
            raise UserError(f"{file}: no column data.field={field!r}, only {', '.join(columns)}")
        for rows in table.iter_batches(columns=[field]):
            for text in rows.column(0).to_pylist():
                if text is not None:
                    yield as_text(f"{file}, column {field}", text)
    except pyarrow.ArrowException as error:
        raise UserError(f"{file} cannot be read as parquet ({error})") from error


READERS = {".txt": _txt, ".jsonl": _jsonl, ".parquet": _parquet}
