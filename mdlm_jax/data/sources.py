"""Where documents come from: the standard library's own source, text files, or a TFDS text dataset."""

import functools
import glob
import gzip
import hashlib
import itertools
import json
import lzma
import pathlib
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mdlm_jax.errors import UserError

HELD_OUT = 0.05
BETWEEN_DOCUMENTS = "\n\f\n"
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
# Absent from some distributions, or written by the machine that built the interpreter.
NOT_EVERYWHERE = {"site-packages", "test", "tests", "idle_test", "idlelib", "lib2to3", "ensurepip"}


class Documents(NamedTuple):
    """Two iterables over documents that may be read any number of times; empty documents are left out."""

    train: Callable[[], Iterator[str]]
    validation: Callable[[], Iterator[str]]
    files: tuple[pathlib.Path, ...]  # what was read, for the manifest; () where there are no files


def open_documents(source: str, path: str, validation_path: str, field: str) -> Documents:
    """Documents of the source `stdlib`, `text` or `tfds`. Raises UserError when there is none of that name."""
    if source not in DOCUMENTS:
        raise UserError(f"data.source={source!r} has no documents; accepted: {', '.join(DOCUMENTS)}")
    return DOCUMENTS[source](path, validation_path, field)


def stdlib_documents(path: str, validation_path: str, field: str) -> Documents:
    """The .py files of the running interpreter's standard library, one document each, in sorted order.

    A file is held out by a hash of its name alone, so versions of Python agree; about 5% of the bytes are. `path`,
    `validation_path` and `field` say nothing here. Raises UserError when the interpreter came without its sources.
    """
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    names = sorted(file.relative_to(root) for file in root.rglob("*.py") if file.stat().st_size)
    names = [name for name in names if not NOT_EVERYWHERE & set(name.parts[:-1])]
    names = [name for name in names if not name.parts[0].startswith(("config-", "_sysconfigdata"))]
    if not names:
        raise UserError(f"data.source='stdlib': no Python sources in {root}; use data.source='text'")

    def held_out(name: pathlib.Path) -> bool:
        # Of the 20 remainders, 2 takes the nearest to 5% of the bytes in Python 3.10 to 3.13 (4.7 to 4.9%).
        return int(hashlib.sha256(name.as_posix().encode()).hexdigest(), 16) % 20 == 2

    def read(validation: bool) -> Iterator[str]:
        for name in names:
            if held_out(name) == validation:
                yield _utf8(root / name, (root / name).read_bytes())

    return Documents(lambda: read(False), lambda: read(True), tuple(root / name for name in names))


def text_documents(path: str, validation_path: str, field: str) -> Documents:
    """Files named by comma-separated globs: .txt, .jsonl and .parquet, the first two also as .gz and .xz.

    A .txt file holds documents separated by a line with only a form feed, else it is one document; .jsonl and .parquet
    hold one a row, in `field`. Files come in sorted order within a glob. Without `validation_path`, the last 5% of
    the characters of all documents are held out, and the document that lies across the boundary is cut in two.
    Raises UserError, naming the file, where one is missing, empty, damaged, not UTF-8 or without the field.
    """
    train_files = _expand("data.path", path)
    if not validation_path:
        train, validation = hold_out_tail(lambda: _read_files(train_files, field))
        return Documents(train, validation, train_files)
    validation_files = _expand("data.validation_path", validation_path)
    return Documents(
        lambda: _read_files(train_files, field),
        lambda: _read_files(validation_files, field),
        train_files + validation_files,
    )


def tfds_documents(path: str, validation_path: str, field: str) -> Documents:
    """A TFDS text dataset: `path` is its name ('wiki40b/en', found in TFDS_DATA_DIR) or the folder it was prepared in.

    `validation_path` names the split that is held out: without it that is 'validation' if the dataset has one, else
    the last 5% of the rows of 'train'. Raises UserError when the dataset, split or field is missing.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(path) if pathlib.Path(path).is_dir() else tfds.builder(path)
    except Exception as error:  # TFDS has one exception a cause, and none in common
        raise UserError(f"data.path={path!r}: TFDS finds no prepared dataset there ({error})") from error
    splits = list(builder.info.splits)
    if field not in builder.info.features:
        raise UserError(f"data.field={field!r}: {path} has the fields {', '.join(builder.info.features)}")
    if validation_path and validation_path not in splits:
        raise UserError(f"data.validation_path={validation_path!r}: {path} has the splits {', '.join(splits)}")
    if "train" not in splits:
        raise UserError(f"data.path={path!r} has no split 'train', only {', '.join(splits) or 'none (not prepared)'}")
    held_out = validation_path or ("validation" if "validation" in splits else "")

    def read(split: str) -> Iterator[str]:
        # The deserializer of the whole row would need TensorFlow for images and audio: take the one field.
        for row in builder.as_data_source(split):
            if text := _utf8(f"{path}, split {split}", row[field]):
                yield text

    if held_out:
        return Documents(lambda: read("train"), lambda: read(held_out), ())
    return Documents(lambda: read("train[:95%]"), lambda: read("train[95%:]"), ())


DOCUMENTS = {"stdlib": stdlib_documents, "text": text_documents, "tfds": tfds_documents}


def hold_out_tail(
    documents: Callable[[], Iterator[str]],
) -> tuple[Callable[[], Iterator[str]], Callable[[], Iterator[str]]]:
    """(all but the last 5% of the characters, those 5%), each read anew at every call: the corpus may exceed memory."""

    @functools.cache
    def boundary() -> int:
        return int((1 - HELD_OUT) * sum(map(len, documents())))

    def head() -> Iterator[str]:
        left = boundary()
        for document in documents():
            if left <= 0:
                return
            yield document[:left]
            left -= len(document)

    def tail() -> Iterator[str]:
        left = boundary()
        for document in documents():
            if len(document) > left:
                yield document[max(left, 0) :]
            left -= len(document)

    return head, tail


def _expand(key: str, patterns: str) -> tuple[pathlib.Path, ...]:
    files = []
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        expanded = str(pathlib.Path(pattern).expanduser())
        found = sorted(name for name in glob.glob(expanded, recursive=True) if pathlib.Path(name).is_file())
        if not found:
            raise UserError(f"{key}: no file matches {pattern!r}")
        files += found
    if not files:
        raise UserError(f"{key} is empty; accepted: comma-separated globs such as 'corpus/*.txt,more.jsonl.gz'")
    for file in files:
        if _kind(file) not in READERS:
            raise UserError(f"{key}: {file} is neither .txt, .jsonl (plain, .gz or .xz) nor .parquet")
    return tuple(map(pathlib.Path, dict.fromkeys(files)))


def _kind(file: str | pathlib.Path) -> str:
    """'.txt' for corpus.txt and corpus.txt.xz."""
    path = pathlib.Path(file)
    return path.with_suffix("").suffix if path.suffix in OPENERS else path.suffix


def _read_files(files: tuple[pathlib.Path, ...], field: str) -> Iterator[str]:
    for file in files:
        texts = filter(None, READERS[_kind(file)](file, field))
        first = next(texts, None)
        if first is None:
            raise UserError(f"{file} is empty: it holds no text")
        yield from itertools.chain([first], texts)


def _open(file: pathlib.Path) -> Iterator[bytes]:
    """Lines of a file that may be compressed."""
    try:
        with OPENERS.get(file.suffix, open)(file, "rb") as lines:
            yield from lines
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{file} cannot be read ({error})") from error


def _txt(file: pathlib.Path, field: str) -> Iterator[str]:
    yield from _utf8(file, b"".join(_open(file))).split(BETWEEN_DOCUMENTS)


def _jsonl(file: pathlib.Path, field: str) -> Iterator[str]:
    for number, line in enumerate(_open(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(_utf8(file, line))
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
        if field not in table.schema_arrow.names:
            raise UserError(f"{file}: no column data.field={field!r}, only {', '.join(table.schema_arrow.names)}")
        for rows in table.iter_batches(columns=[field]):
            for text in rows.column(0).to_pylist():
                if text is not None:
                    yield _utf8(file, text)
    except pyarrow.ArrowException as error:
        raise UserError(f"{file} cannot be read as parquet ({error})") from error


READERS = {".txt": _txt, ".jsonl": _jsonl, ".parquet": _parquet}


def _utf8(where: str | pathlib.Path, text: bytes | str) -> str:
    if isinstance(text, str):
        return text
    if not isinstance(text, bytes):
        raise UserError(f"{where}: the field holds {type(text).__name__}, not text")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8: byte {error.start} ({error.reason})") from error
