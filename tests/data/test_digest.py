"""A corpus's digest follows its content and nothing else."""

import os
import pathlib
import shutil

import pytest

from mdlm_jax.data import digest
from mdlm_jax.data.build import build_corpus
from mdlm_jax.data.digest import corpus_digest, file_digest
from mdlm_jax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a.txt").write_text("one " * 100)
    (tmp_path / "corpus/b.jsonl").write_text('{"text": "two", "body": "three"}\n')
    return tmp_path / "corpus"


def of_text(path, validation_path="", field="text"):
    return corpus_digest("text", str(path), str(validation_path), field)


def test_path_spelling_and_location_do_not_count(folder, tmp_path, monkeypatch):
    expected = of_text(f"{folder}/*")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    moved = shutil.copytree(folder, tmp_path / "moved")
    (tmp_path / "link").symlink_to(folder)
    for path in ("corpus/*", "./corpus/../corpus/?.*", "~/corpus/a.txt, corpus/b.jsonl", f"{moved}/*", "link/*"):
        assert of_text(path) == expected


def test_content_and_file_order_count(folder):
    digests = {
        of_text(f"{folder}/*"),
        of_text(f"{folder}/*", field="body"),
        of_text(f"{folder}/a.txt"),
        of_text(f"{folder}/a.txt", f"{folder}/b.jsonl"),
        of_text(f"{folder}/b.jsonl", f"{folder}/a.txt"),
        of_text(f"{folder}/b.jsonl,{folder}/a.txt"),
    }
    (folder / "a.txt").write_text("oNe " * 100)
    digests |= {of_text(f"{folder}/*"), of_text(f"{folder}/a.txt")}
    assert len(digests) == 8
    assert of_text(f"{folder}/a.txt", field="x") == of_text(f"{folder}/a.txt", field="y"), "text files have no fields"


def test_synthetic_and_library_text():
    markov = [
        corpus_digest("markov", path, "", "") for path in ("vocab=4,concentration=1", "concentration=1.0,vocab=4")
    ]
    assert markov[0] == markov[1] != corpus_digest("markov", "vocab=5,concentration=1", "", "")
    assert corpus_digest("stdlib", "", "", "text") == corpus_digest("stdlib", "x", "y", "z")


def test_moved_corpus_keeps_its_digest(folder, tmp_path):
    def built(name, path):
        build_corpus(
            tmp_path / name, source="text", path=path, validation_path="", field="text", tokenizer="bytes", workers=1
        )
        return corpus_digest("tokens", str(tmp_path / name), "", "")

    first = built("built", f"{folder}/a.txt")
    shutil.move(tmp_path / "built", tmp_path / "moved")
    assert corpus_digest("tokens", str(tmp_path / "moved"), "", "") == first
    assert built("again", f"{folder}/../corpus/a.txt") == first
    assert built("other", f"{folder}/b.jsonl,{folder}/a.txt") != first


def test_large_file_is_hashed_once(tmp_path, monkeypatch):
    file = tmp_path / "large.txt"
    file.write_bytes(b"a" * digest.SMALL)
    first = file_digest(file)
    assert not (tmp_path / "cache").exists(), "it was changed a moment ago"
    monkeypatch.setattr(digest, "SETTLED_SECONDS", -1)
    assert file_digest(file) == first
    (kept,) = pathlib.Path(tmp_path / "cache/mdlm-jax/digests").iterdir()
    kept.write_text("kept")
    assert file_digest(file) == "kept"
    stamp = file.stat().st_mtime_ns
    file.write_bytes(b"b" * digest.SMALL)
    os.utime(file, ns=(stamp, stamp))
    assert file_digest(file) not in ("kept", first), "the same size and time of modification, but another change"


def test_unwritable_cache_is_ignored(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder would be")
    monkeypatch.setattr(digest, "SETTLED_SECONDS", -1)
    (tmp_path / "large.txt").write_bytes(b"a" * digest.SMALL)
    assert len(file_digest(tmp_path / "large.txt")) == 64


@pytest.mark.parametrize(
    ("source", "path", "what"),
    [
        ("text", "no/such.txt", "such.txt"),
        ("tokens", "nowhere", "nowhere"),
        ("web", "", "web"),
        ("markov", "", "Markov"),
    ],
)
def test_errors_name_the_source(source, path, what):
    with pytest.raises(UserError, match=what):
        corpus_digest(source, path, "", "text")
