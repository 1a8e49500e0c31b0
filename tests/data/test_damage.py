"""A damaged corpus is refused in one line that names it; nothing of it is taken for text."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from mdlm_jax.data import corpus
from mdlm_jax.data.build import build_corpus
from mdlm_jax.errors import UserError

TRAIN, VALIDATION = "tokens-train.array_record-00000", "tokens-validation.array_record-00000"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    words = np.random.default_rng(0).integers(97, 123, 60_000, dtype=np.uint8).tobytes().decode()
    (folder / "train.txt").write_text(words)
    (folder / "valid.txt").write_text(words[:9000])
    paths = {"path": f"{folder}/train.txt", "validation_path": f"{folder}/valid.txt", "field": ""}
    build_corpus(folder / "corpus", source="text", **paths, tokenizer="bytes", workers=1)
    return folder / "corpus"


def manifest_with(*keys, value):
    """A function that sets, or with `value=KeyError` deletes, one value of a manifest of before it had a digest."""

    def damage(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["sha256"]
        inner = manifest
        for key in keys[:-1]:
            inner = inner[key]
        if value is KeyError:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def content(name, new):
    return lambda folder: (folder / name).write_bytes(
        new if isinstance(new, bytes) else new((folder / name).read_bytes())
    )


def missing(name):
    return lambda folder: (folder / name).unlink()


def folder_instead(name):
    def damage(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def swapped(folder):
    (folder / TRAIN).rename(folder / "other")
    (folder / VALIDATION).rename(folder / TRAIN)
    (folder / "other").rename(folder / VALIDATION)


def flipped(place):
    return lambda whole: whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


def replaced(old, new):
    return lambda whole: whole.replace(old, new)


def without_sizes(damage):
    """As in a corpus of an earlier version, whose manifest does not list the shards."""

    def both(folder):
        manifest_with("shards", value=KeyError)(folder)
        damage(folder)

    return both


DAMAGE = {
    "manifest is missing": lambda: missing("manifest.json"),
    "manifest is a folder": lambda: folder_instead("manifest.json"),
    "manifest is empty": lambda: content("manifest.json", b""),
    "manifest is truncated": lambda: content("manifest.json", lambda whole: whole[:100]),
    "manifest is not UTF-8": lambda: content("manifest.json", b"\xff\xfe{}"),
    "manifest is a list": lambda: content("manifest.json", b"[]"),
    "manifest is null": lambda: content("manifest.json", b"null"),
    "manifest is deep": lambda: content("manifest.json", b"[" * 100_000),
    "another version": lambda: manifest_with("version", value=0),
    "no splits": lambda: manifest_with("splits", value=KeyError),
    "no validation": lambda: manifest_with("splits", "validation", value=KeyError),
    "splits are a list": lambda: manifest_with("splits", value=[]),
    "no tokens": lambda: manifest_with("splits", "validation", "tokens", value=0),
    "tokens are text": lambda: manifest_with("splits", "train", "tokens", value="many"),
    "tokens are negative": lambda: manifest_with("splits", "train", "tokens", value=-5),
    "other tokens": lambda: manifest_with("splits", "train", "tokens", value=60_000),
    "other records": lambda: manifest_with("splits", "train", "tokens", value=70_000),
    "other bytes": lambda: content("manifest.json", replaced(b'"bytes": 9000', b'"bytes": 9001')),
    "bytes are null": lambda: manifest_with("splits", "validation", "bytes", value=None),
    "no tokenizer": lambda: manifest_with("tokenizer", value=KeyError),
    "tokenizer is text": lambda: manifest_with("tokenizer", value="bytes"),
    "another tokenizer": lambda: manifest_with("tokenizer", "fingerprint", value="0" * 64),
    "fingerprint is a number": lambda: manifest_with("tokenizer", "fingerprint", value=3),
    "small vocabulary": lambda: manifest_with("tokenizer", "vocab_size", value=100),
    "vocabulary of another type": lambda: manifest_with("tokenizer", "vocab_size", value=2**20),
    "no files": lambda: manifest_with("files", value=KeyError),
    "files are numbers": lambda: manifest_with("files", value=[1]),
    "shards are text": lambda: manifest_with("shards", value="none"),
    "features are missing": lambda: missing("features.json"),
    "features are empty": lambda: content("features.json", b""),
    "features are not JSON": lambda: content("features.json", b"{"),
    "features are a list": lambda: content("features.json", b"[]"),
    "features of another type": lambda: content("features.json", replaced(b"uint16", b"uint8")),
    "features of another name": lambda: content("features.json", replaced(b'"tokens"', b'"ids"')),
    "features of an unknown class": lambda: content("features.json", replaced(b"Tensor", b"Tensored")),
    "info is missing": lambda: missing("dataset_info.json"),
    "info is empty": lambda: content("dataset_info.json", b""),
    "info is not JSON": lambda: content("dataset_info.json", b"{{"),
    "info lacks a split": lambda: content("dataset_info.json", replaced(b'"validation"', b'"test"')),
    "info of another format": lambda: content("dataset_info.json", replaced(b"array_record", b"parquet")),
    "shard is missing": lambda: missing(TRAIN),
    "shard is a folder": lambda: folder_instead(VALIDATION),
    "shard is empty": lambda: content(TRAIN, b""),
    "shard is truncated": lambda: content(TRAIN, lambda whole: whole[:-1000]),
    "shard is text": lambda: content(VALIDATION, b"some text"),
    "shard is zeros": lambda: content(TRAIN, lambda whole: bytes(len(whole))),
    "shard has a flipped bit": lambda: content(TRAIN, flipped(20_000)),
    "shards are swapped": lambda: swapped,
    "old, shard is missing": lambda: without_sizes(missing(TRAIN)),
    "old, shard is empty": lambda: without_sizes(content(TRAIN, b"")),
    "old, shard is truncated": lambda: without_sizes(content(TRAIN, lambda whole: whole[: len(whole) // 2])),
    "old, shard is text": lambda: without_sizes(content(VALIDATION, b"some text")),
    "old, shards are swapped": lambda: without_sizes(swapped),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_reported_in_one_line(built, tmp_path, damage):
    folder = tmp_path / "corpus"
    shutil.copytree(built, folder)
    DAMAGE[damage]()(folder)
    with pytest.raises(UserError) as caught:
        splits = corpus.open_corpus(str(folder), "bytes", 50)
        for rows in (splits.train, splits.validation):
            rows.read(np.arange(rows.count))
    message = str(caught.value)
    assert str(folder) in message and len(message.splitlines()) == 1 and len(message) < 500, message


def test_earlier_corpora_without_shard_sizes_open(built, tmp_path):
    folder = pathlib.Path(shutil.copytree(built, tmp_path / "corpus"))
    manifest_with("shards", value=KeyError)(folder)
    splits = corpus.open_corpus(str(folder), "bytes", 50)
    expected = corpus.open_corpus(str(built), "bytes", 50)
    np.testing.assert_array_equal(splits.train.read(np.arange(1200)), expected.train.read(np.arange(1200)))


def test_too_long_rows_name_the_corpus(built):
    with pytest.raises(UserError, match="corpus, validation: 9001 tokens are fewer than one row of 10000"):
        corpus.open_corpus(str(built), "bytes", 10_000)
