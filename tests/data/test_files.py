"""Every kind of file gives the same documents, and every error names its file."""

import gzip
import json
import lzma
import re

import pyarrow
import pyarrow.parquet
import pytest

from mdlm_jax.data.files import expand, read_files
from mdlm_jax.errors import UserError

DOCUMENTS = ["First line.\r\nSecond.", "naïve 漢字", "third\n"]


def write(path, documents):
    kind = path.name.split(".", 1)[1]
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": [*documents, None, ""]}), path)
        return
    if kind.startswith("txt"):
        content = "\n\f\n".join(documents)
    else:
        content = "\n".join(json.dumps({"id": 1, "text": text}) for text in [*documents, ""]) + "\n\n"
    opener = {"gz": gzip.open, "xz": lzma.open}.get(kind.split(".")[-1], open)
    with opener(path, "wb") as file:
        file.write(content.encode())


KINDS = ["txt", "txt.gz", "txt.xz", "jsonl", "jsonl.gz", "jsonl.xz", "parquet"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_documents(tmp_path, kind):
    path = tmp_path / f"corpus.{kind}"
    write(path, DOCUMENTS)
    assert list(read_files(expand("data.path", str(path)), "text")) == DOCUMENTS


def test_globs_are_sorted_and_hold_a_file_once(tmp_path):
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    files = expand("data.path", f"{tmp_path}/**/*.txt, {tmp_path}/a.txt")
    assert [file.name for file in files] == ["a.txt", "b.txt", "c.txt"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("empty.txt", b"", "empty"),
        ("blank.txt", b"\n\f\n", "empty"),
        ("latin.txt", "caf\xe9".encode("latin-1"), "not UTF-8: byte 3"),
        ("empty.jsonl", b"\n", "empty"),
        ("nothing.jsonl", b'{"text": ""}\n', "empty"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', "line 2, is not UTF-8"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("other.jsonl", b'{"body": "a"}\n', "line 1: no text in data.field='text'"),
        ("number.jsonl", b'{"text": 3}\n', "line 1: no text"),
        ("list.jsonl", b'["text"]\n', "line 1: no text"),
        ("plain.txt.gz", b"not compressed", "cannot be read"),
        ("plain.jsonl.xz", b"not compressed", "cannot be read"),
        ("half.txt.gz", gzip.compress(b"some text" * 100, mtime=0)[:20], "cannot be read"),
        ("half.txt.xz", lzma.compress(b"some text" * 100)[:60], "cannot be read"),
        ("plain.parquet", b"not parquet", "parquet"),
    ],
)
def test_errors_name_the_file(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{re.escape(name)}.*{re.escape(what)}"):
        list(read_files((tmp_path / name,), "text"))


def test_parquet_columns(tmp_path):
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"], "count": [1], "raw": [b"caf\xe9"]}), path)
    for field, what in [("text", "only body, count, raw"), ("count", "found int"), ("raw", "not UTF-8")]:
        with pytest.raises(UserError, match=f"table.parquet.*{what}"):
            list(read_files((path,), field))


def test_globs_that_name_nothing(tmp_path):
    (tmp_path / "notes.md").write_text("a")
    for patterns, what in [("", "accepted"), (f"{tmp_path}/*.txt", "no file matches"), (f"{tmp_path}/*", "notes.md")]:
        with pytest.raises(UserError, match=f"data.path.*{what}"):
            expand("data.path", patterns)
