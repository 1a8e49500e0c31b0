"""Documents of one file, by kind: .txt, .jsonl, .json, .parquet and .tar.

One rule for rows without text, whatever the kind: a null or an empty string is yielded as '', which consumers leave
out and count. A row that lacks the field, or holds something else there, is an error.
"""

import io
import itertools
import json
import pathlib
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mdlm_jax.data.compressed import kind, open_stream
from mdlm_jax.errors import UserError, one_line

BETWEEN_DOCUMENTS = "\n\f\n"
# a line with only a form feed, which starts a line; it begins with the form feed because that is fast to search for
_FORM_FEED = re.compile(r"\f(?<![^\n]\f)\r?(?:\n|\Z)")


def as_text(where: str, content: Any) -> str:
    """The text of a str or of UTF-8 bytes, without a byte order mark in front; '' for None.

    Raises:
        UserError: The content is anything else; the message starts with `where`.
    """
    if content is None:
        return ""
    if not isinstance(content, (str, bytes)):
        raise UserError(f"{where}: expected text, found {type(content).__name__}")
    try:
        if isinstance(content, bytes):
            return content.decode("utf-8-sig")
        content.encode("utf-8")  # JSON can spell half of a surrogate pair, which is no character
        return content
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        unit = "byte" if isinstance(content, bytes) else "character"
        raise UserError(f"{where} is not UTF-8: {unit} {error.start} ({error.reason})") from error


def read_txt(stream: io.BufferedIOBase, where: str, field: str) -> Iterator[str]:
    """The pieces between lines that hold only a form feed; blank pieces are no documents."""
    *pieces, last = _FORM_FEED.split(as_text(where, stream.read()))
    for piece in pieces:  # each ends with the line break before the form feed, if it has any text
        yield from filter(None, [piece.removesuffix("\n").removesuffix("\r")])
    if last:
        yield last


def json_lines(stream: Iterable[bytes], where: str) -> Iterator[tuple[str, Any]]:
    """(file and line, value) of each line; blank lines are no rows."""
    for number, line in enumerate(stream, start=1):
        if line.strip():
            at = f"{where}, line {number}"
            yield at, parse_json(at, line)


def read_jsonl(stream: Iterable[bytes], where: str, field: str) -> Iterator[str]:
    """The texts of one object a line."""
    for at, row in json_lines(stream, where):
        yield _field(at, row, field)


def read_json(stream: io.BufferedIOBase, where: str, field: str) -> Iterator[str]:
    """An array of objects, one object, or, as many .json files are, one object a line."""
    first = next((line for line in stream if line.strip()), b"")
    try:
        lines = isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        lines = False
    whole = itertools.chain([first], stream)
    if lines:
        yield from read_jsonl(whole, where, field)
        return
    content = b"".join(whole)
    if not content:
        return
    parsed = parse_json(where, content)
    for number, row in enumerate(parsed if isinstance(parsed, list) else [parsed], start=1):
        yield _field(f"{where}, item {number}", row, field)


def read_tar(stream: io.BufferedIOBase, where: str, field: str) -> Iterator[str]:
    """Samples as in WebDataset: consecutive files whose names agree up to the first dot.

    The text of a sample is its .txt file; without one, `field` of its .json or .jsonl file; without either, ''.
    Each may be compressed.
    """
    readers = {".txt": read_txt, ".json": read_json, ".jsonl": read_jsonl}
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=StrictHeader) as tar:
        # A stream cannot go back, so a file's content is read when its header is.
        files = (
            (
                pathlib.PurePath(member.name),
                tar.extractfile(member).read() if kind(pathlib.PurePath(member.name)) in readers else b"",
            )
            for member in tar
            if member.isfile()
        )
        for _, sample in itertools.groupby(files, lambda file: file[0].with_name(file[0].name.split(".")[0] or "_")):
            contents = {kind(name): (name, content) for name, content in sample}
            suffix = next((suffix for suffix in readers if suffix in contents), None)
            if suffix is None:
                yield ""
                continue
            name, content = contents[suffix]
            yield from readers[suffix](open_stream(io.BytesIO(content), name.suffix), f"{where}, {name}", field)


class StrictHeader(tarfile.TarInfo):
    """tarfile takes a damaged header, or the end of a truncated file, for the end of the archive."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged or truncated: {error}") from error


def read_parquet(file: pathlib.Path, field: str) -> Iterator[str]:
    """One row after another. A column of that very name comes before a path into nested columns."""

    def column(names: list[str]) -> list[str]:
        name = field if field in names else field.partition(".")[0]
        if name not in names:
            raise UserError(f"{file}: no column data.field={field!r}, only {', '.join(names)}")
        return [name]

    for number, rows in enumerate(_batches(file, column)):
        for row in rows:
            yield _field(f"{file}, batch {number}", row, field)


def parquet_rows(file: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and row, values by column) of each row."""
    number = 0
    for rows in _batches(file, lambda names: names, at_once=256):  # a row may hold an image
        for row in rows:
            number += 1
            yield f"{file}, row {number}", row


def _batches(
    file: pathlib.Path, columns: Callable[[list[str]], list[str]], at_once: int = 2**16
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a parquet file, `at_once` at a time, with the columns that are chosen from its own."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        # `columns` takes 'a.b' both for the column 'a.b' and for the part b of column a.
        for rows in table.iter_batches(at_once, columns=columns(table.schema_arrow.names)):
            yield rows.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # damaged bytes are a plain OSError
        raise UserError(f"{file} cannot be read as parquet ({one_line(error)})") from error


def parse_json(where: str, content: bytes) -> Any:
    """The value of a JSON text. Raises UserError, with `where`, where it is none."""
    text = as_text(f"{where},", content)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError
        raise UserError(f"{where}: not JSON ({error})") from error


def _field(where: str, row: Any, field: str) -> str:
    """The text of a row. Raises UserError where the row lacks `field`."""
    try:
        return as_text(f"{where}, data.field={field!r}", find(row, field))
    except KeyError:
        has = f"only {', '.join(map(str, row)):.200}" if isinstance(row, dict) else f"a row is a {type(row).__name__}"
        raise UserError(f"{where}: no data.field={field!r}, {has}") from None


def find(row: Any, field: str) -> Any:
    """row['a.b'] if there is that key, else row['a']['b']. Raises KeyError where there is neither."""
    if not isinstance(row, dict):
        raise KeyError(field)
    if field in row:
        return row[field]
    head, dot, rest = field.partition(".")
    if not dot:
        raise KeyError(field)
    return None if row[head] is None else find(row[head], rest)
