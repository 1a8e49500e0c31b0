"""Where documents come from: the standard library's own source, text files, or a TFDS text dataset."""

import difflib
import functools
import hashlib
import os
import pathlib
import sysconfig
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mdlm_jax.data.files import expand, read_files
from mdlm_jax.data.readers import as_text
from mdlm_jax.errors import UserError, one_line

HELD_OUT = 0.05  # the share of a corpus that is held out
# folders that are not part of the standard library, are missing from some distributions, or hold tests
EXCLUDED_FOLDERS = {"site-packages", "test", "tests", "idle_test", "idlelib", "lib2to3", "ensurepip"}
# files written when the interpreter was built, which differ between machines
EXCLUDED_PREFIXES = ("config-", "_sysconfigdata")


class Documents(NamedTuple):
    """Two streams of documents. Each call starts a new pass, because a corpus may be larger than the memory.

    A row without text (null or empty) is the document '': consumers skip and count it.
    """

    train: Callable[[], Iterator[str]]
    validation: Callable[[], Iterator[str]]
    files: tuple[pathlib.Path, ...]  # the files that they are read from


def open_documents(source: str, path: str, validation_path: str, field: str) -> Documents:
    """Opens the documents of a source.

    Args:
        source: A key of DOCUMENTS.
        path: `data.path`, as the source reads it.
        validation_path: `data.validation_path`, as the source reads it.
        field: `data.field`, as the source reads it.

    Raises:
        UserError: The source is unknown, or its documents cannot be read.
    """
    if source not in DOCUMENTS:
        raise UserError(f"data.source={source!r} has no documents; accepted: {', '.join(DOCUMENTS)}")
    return DOCUMENTS[source](path, validation_path, field)


def stdlib_documents(path: str, validation_path: str, field: str) -> Documents:
    """The .py files of the running interpreter's standard library, one document each, in sorted order.

    A hash of the name alone decides whether a file is held out, so versions of Python agree; about 5% of the bytes are
    held out. `path`, `validation_path` and `field` are ignored.

    Raises:
        UserError: The interpreter was installed without its sources.
    """
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    names = sorted(file.relative_to(root) for file in _sources_under(root) if file.stat().st_size)
    names = [name for name in names if not name.parts[0].startswith(EXCLUDED_PREFIXES)]
    if not names:
        raise UserError(f"data.source='stdlib': no Python sources in {root}; use data.source='text'")

    def held_out(name: pathlib.Path) -> bool:
        # remainder 10 holds out the share nearest to 5% of the bytes in Python 3.10 to 3.13 (5.0 to 5.2%)
        return int(hashlib.sha256(name.as_posix().encode()).hexdigest(), 16) % 20 == 10

    def read(validation: bool) -> Iterator[str]:
        return (as_text(str(root / name), (root / name).read_bytes()) for name in names if held_out(name) == validation)

    return Documents(lambda: read(False), lambda: read(True), tuple(root / name for name in names))


def _sources_under(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """The .py files under a folder, without those in EXCLUDED_FOLDERS: these hold many more files than the rest."""
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in EXCLUDED_FOLDERS]
        yield from (pathlib.Path(folder, name) for name in files if name.endswith(".py"))


def text_documents(path: str, validation_path: str, field: str) -> Documents:
    """Documents in .txt, .jsonl, .json, .tar and .parquet files.

    All but .parquet may be compressed: .gz, .xz or .zst. Lines with only a form feed separate the documents of a .txt
    file; without such lines the file is one document. A .tar file holds samples as in WebDataset. The other files hold
    one document per row, in `field`.

    Args:
        path: Comma-separated globs and folders.
        validation_path: The same for the held-out text. Empty: the last 5% of the characters of all documents are held
            out, and the document at the boundary is cut in two.
        field: The field of the text in a row; it may be a path such as 'meta.text'.

    Raises:
        UserError: A file is missing, empty, damaged, not UTF-8 or lacks the field; the message names the file.
    """
    train_files = expand("data.path", path)
    if not validation_path:
        train, validation = hold_out_tail(lambda: read_files(train_files, field))
        return Documents(train, validation, train_files)
    validation_files = expand("data.validation_path", validation_path)
    return Documents(
        lambda: read_files(train_files, field),
        lambda: read_files(validation_files, field),
        train_files + validation_files,
    )


def tfds_documents(path: str, validation_path: str, field: str) -> Documents:
    """A TFDS text dataset in ArrayRecord.

    Args:
        path: The name of the dataset ('wiki40b/en', below TFDS_DATA_DIR), or its folder.
        validation_path: The split that is held out. Empty: 'validation' if the dataset has one, else the last 5% of the
            rows of 'train'.
        field: The feature with the text.

    Raises:
        UserError: The dataset, a split or the field is missing.
    """
    import tensorflow_datasets as tfds

    prepare = "prepare one with `tfds build NAME --file_format=array_record`"
    try:
        builder = tfds.builder_from_directory(path) if pathlib.Path(path).is_dir() else tfds.builder(path)
        splits = list(builder.info.splits)
        features = list(builder.info.features or ())
        held_out = validation_path or ("validation" if "validation" in splits else "train[95%:]")
        trained = "train" if held_out in splits else "train[:95%]"
        if field not in features:
            raise UserError(f"data.field={field!r}: {path} has the fields {', '.join(features)}; {prepare}")
        if missing := {"train", held_out.split("[")[0]} - set(splits):
            raise UserError(f"data.path={path!r} has no split {missing.pop()!r}, only {', '.join(splits)}; {prepare}")
        rows = {split: builder.as_data_source(split) for split in (trained, held_out)}
    except UserError:
        raise
    except Exception as error:  # TFDS raises one type a cause, with no base of their own
        what = f"data.path={path!r} is no TFDS dataset that can be read ({one_line(error)})"
        near = difflib.get_close_matches(path, tfds.list_builders(with_community_datasets=False))
        raise UserError(f"{what}{f', perhaps {near[0]!r}' if near else ''}; {prepare}") from error

    def read(split: str) -> Iterator[str]:
        return (as_text(f"{path}, split {split}, {field}", row[field]) for row in rows[split])

    files = [pathlib.Path(file) for name in splits for file in builder.info.splits[name].filepaths]
    return Documents(lambda: read(trained), lambda: read(held_out), tuple(files))


DOCUMENTS = {"stdlib": stdlib_documents, "text": text_documents, "tfds": tfds_documents}


def hold_out_tail(
    documents: Callable[[], Iterator[str]],
) -> tuple[Callable[[], Iterator[str]], Callable[[], Iterator[str]]]:
    """Splits documents into (all but the last 5% of the characters, the last 5%). Each pass reads them again."""

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
            if len(document) > left or left <= 0:
                yield document[max(left, 0) :]
            left -= len(document)

    return head, tail
