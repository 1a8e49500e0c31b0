"""Every kind of file gives the same documents, and every error names its file."""

import functools
import gzip
import io
import json
import lzma
import re
import tarfile

import pyarrow
import pyarrow.parquet
import pytest

from mdlm_jax.data.files import expand, read_files, read_rows
from mdlm_jax.errors import UserError

DOCUMENTS = ["First line.\r\nSecond.", "naïve 漢字", "third\n"]
KINDS = [
    *(f"{kind}{packed}" for kind in ("txt", "jsonl", "json", "tar") for packed in ("", ".gz", ".xz", ".zst")),
    "lines.json",
    "object.json",
    "parquet",
    "large.parquet",
    "dictionary.parquet",
]


def tar_of(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, member in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(member)
            tar.addfile(info, io.BytesIO(member))
    return content.getvalue()


def content_of(kind, rows):
    """Rows (None and '' are without text) as the content of a file of this kind; the text stands in meta.text."""
    texts = [text for text in rows if text]
    nested = [
        json.dumps({"id": 1, "meta": {"text": text}}, ensure_ascii=number % 2) for number, text in enumerate(rows)
    ]
    if kind == "txt":
        return "\n\f\n".join(texts).encode()
    if kind in ("jsonl", "lines.json"):
        return ("\n".join(nested) + "\n\n").encode()
    if kind == "json":
        return f"[\n{','.join(nested)}]".encode()
    if kind == "object.json":
        return json.dumps({"meta": {"text": rows[0]}}, indent=1).encode()
    if kind == "tar":
        members = {}
        for number, text in enumerate(rows):
            name = f"folder/{number:03d}"
            members[f"{name}.jpg"] = b"\xff"
            if number % 2 and text:
                members |= {f"{name}.json": b'{"width": 3}', f"{name}.txt": text.encode()}
            else:
                members[f"{name}.json"] = nested[number].encode()
        return tar_of(members)
    content = io.BytesIO()
    types = {"parquet": pyarrow.string(), "large.parquet": pyarrow.large_string()}
    if kind == "dictionary.parquet":
        column = pyarrow.array(rows).dictionary_encode()
    else:
        column = pyarrow.array(rows, types[kind])
    pyarrow.parquet.write_table(pyarrow.table({"meta": pyarrow.StructArray.from_arrays([column], ["text"])}), content)
    return content.getvalue()


def write(folder, name, rows):
    kind, _, packed = name.partition(".") if name.endswith((".gz", ".xz", ".zst")) else (name, "", "")
    content = content_of(kind, rows)
    if packed == "zst":  # two frames, as parallel compressors write them
        halves = content[: len(content) // 2], content[len(content) // 2 :]
        content = b"".join(pyarrow.compress(half, codec="zstd", asbytes=True) for half in halves)
    elif packed:
        content = {"gz": gzip, "xz": lzma}[packed].compress(content)
    path = folder / f"corpus.{name}"
    path.write_bytes(content)
    return path


def read(path, field="meta.text"):
    return list(read_files(expand("data.path", str(path)), field))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_documents(tmp_path, kind):
    rows = DOCUMENTS[:1] if kind == "object.json" else [*DOCUMENTS, None, ""]
    documents = read(write(tmp_path, kind, rows))
    assert [text for text in documents if text] == [text for text in rows if text]
    assert documents.count("") == (0 if kind.startswith("txt") else rows.count(None) + rows.count(""))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_with_a_form_feed_separate_documents(tmp_path, end):
    """At the start, at the end and several in a row; a form feed within a line belongs to the text."""
    lines = ["\f", "a", "\f", "\f", "b\f", "", "\fc", "\f", "d", "\f"]
    (tmp_path / "a.txt").write_bytes(end.join(lines).encode())
    assert read(tmp_path) == ["a", f"b\f{end}{end}\fc", "d"]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "lines.json"])
def test_a_byte_order_mark_is_no_text(tmp_path, kind):
    path = write(tmp_path, kind, DOCUMENTS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path) == DOCUMENTS


def test_tar_members_may_be_compressed(tmp_path):
    whole = {"a.txt": b"plain", "b.json": b'{"text": "nested"}', "c.jsonl": b'{"text": "row"}\n'}
    packed = {"a.txt.gz": gzip.compress(whole["a.txt"]), "b.json.xz": lzma.compress(whole["b.json"])}
    packed["c.jsonl.zst"] = pyarrow.compress(whole["c.jsonl"], codec="zstd", asbytes=True)
    for number, members in enumerate((whole, packed)):
        (tmp_path / f"{number}.tar").write_bytes(tar_of(members))
        assert read(tmp_path / f"{number}.tar", "text") == ["plain", "nested", "row"]
    (tmp_path / "half.tar").write_bytes(tar_of({"a.txt.gz": packed["a.txt.gz"][:9]}))
    with pytest.raises(UserError, match="half.tar cannot be read"):
        read(tmp_path / "half.tar")


def test_folders_and_globs_of_mixed_kinds(tmp_path):
    for kind in KINDS:
        write(tmp_path, kind, DOCUMENTS[:1])
    assert read(f"{tmp_path}/*") == DOCUMENTS[:1] * len(KINDS)
    (tmp_path / "README.md").write_text("not of the corpus")
    (tmp_path / ".hidden.txt").write_text("nor this")
    assert read(tmp_path) == DOCUMENTS[:1] * len(KINDS)
    (tmp_path / "[a]*.txt").write_text("a name that looks like a glob")
    assert read(f"{tmp_path}/[a]*.txt") == ["a name that looks like a glob"]


@pytest.mark.parametrize(("field", "expected"), [("text.en", "dotted"), ("text.de", "German"), ("text.x.y", "deep")])
def test_keys_take_precedence_over_paths(tmp_path, field, expected):
    row = {"text": {"en": "nested", "de": "German", "x.y": "deep"}, "text.en": "dotted"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "b.parquet")
    assert read(tmp_path, field) == [expected] * 2


def test_globs_are_sorted_without_duplicates(tmp_path):
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for patterns in (f"{tmp_path}/**/*.txt, {tmp_path}/a.txt", f"{tmp_path}"):
        assert [file.name for file in expand("data.path", patterns)] == ["a.txt", "b.txt", "c.txt"]


@functools.cache
def tar():
    """Two headers, each followed by a block."""
    return tar_of({"a.jpg": b"\xff", "a.txt": b"some text"})


@functools.cache
def zst():
    return pyarrow.compress(b"some text" * 100, codec="zstd", asbytes=True)


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
        ("other.jsonl", b'{"body": "a"}\n', "line 1: no data.field='text', only body"),
        ("number.jsonl", b'{"text": 3}\n', "line 1, data.field='text': expected text, found int"),
        ("list.jsonl", b'["text"]\n', "line 1: no data.field='text', a row is a list"),
        ("half.jsonl", b'{"text": "\\ud800"}\n', "line 1, data.field='text' is not UTF-8: character 0"),
        ("deep.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("digits.jsonl", b'{"text": ' + b"9" * 5000 + b"}\n", "line 1: not JSON"),
        ("keys.jsonl", b'{"a\\nb": 1, "' + b"k" * 5000 + b'": 2}\n', "line 1: no data.field='text', only a"),
        ("empty.json", b" \n", "empty"),
        ("deep.json", b"[" * 100_000, "not JSON"),
        ("digits.json", b"[" + b"9" * 5000 + b"]", "not JSON"),
        ("broken.json", b"[\n{]", "not JSON"),
        ("other.json", b'[{"text": "a"}, {"body": "a"}]', "item 2: no data.field='text', only body"),
        ("number.json", b"3", "item 1: no data.field='text', a row is a int"),
        ("plain.tar", b"not a tar" * 100, "damaged"),
        ("empty.tar", b"", "cannot be read"),
        ("half.tar", lambda: tar()[: 512 * 3], "cannot be read"),
        ("cut.tar", lambda: tar()[: 512 * 4], "truncated"),
        ("flipped.tar", lambda: tar()[:1100] + b"?" + tar()[1101:], "damaged"),
        ("pictures.tar", lambda: tar()[:1024] + bytes(1024), "empty"),
        ("plain.txt.zst", b"not compressed", "cannot be read"),
        ("half.txt.zst", lambda: zst()[:-1], "cannot be read"),
        ("plain.txt.gz", b"not compressed", "cannot be read"),
        ("plain.jsonl.xz", b"not compressed", "cannot be read"),
        ("half.txt.gz", lambda: gzip.compress(b"some text" * 100, mtime=0)[:20], "cannot be read"),
        ("half.txt.xz", lambda: lzma.compress(b"some text" * 100)[:60], "cannot be read"),
        ("plain.parquet", b"not parquet", "parquet"),
    ],
)
def test_errors_name_the_file(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content() if callable(content) else content)
    with pytest.raises(UserError, match=f"{re.escape(name)}.*{re.escape(what)}"):
        list(read_files((tmp_path / name,), "text"))


def test_parquet_columns(tmp_path):
    path = tmp_path / "table.parquet"
    columns = {"body": ["a"], "count": [1], "raw": [b"caf\xe9"], "meta": [{"text": "a"}]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    for field, what in [
        ("text", "only body, count, raw, meta"),
        ("count", "found int"),
        ("raw", "not UTF-8"),
        ("meta", "found dict"),
        ("meta.body", "no data.field='meta.body', only meta"),
    ]:
        with pytest.raises(UserError, match=f"table.parquet.*{what}"):
            list(read_files((path,), field))
    for damaged in (path.read_bytes()[:-20], path.read_bytes()[:40] + bytes(400) + path.read_bytes()[440:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="table.parquet cannot be read"):
            list(read_files((path,), "body"))


def test_globs_without_matches_are_refused(tmp_path):
    (tmp_path / "notes.md").write_text("a")
    for patterns, what in [("", "accepted"), (f"{tmp_path}/*.txt", "no file matches"), (f"{tmp_path}/*", "notes.md")]:
        with pytest.raises(UserError, match=f"data.path.*{what}"):
            expand("data.path", patterns)


ROWS = b'{"a": 1}\n' * 50


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("plain.jsonl.gz", lambda: ROWS),
        ("half.jsonl.gz", lambda: gzip.compress(ROWS, mtime=0)[:30]),
        ("flipped.jsonl.gz", lambda: gzip.compress(ROWS, mtime=0)[:15] + bytes(8) + gzip.compress(ROWS, mtime=0)[23:]),
        ("plain.jsonl.xz", lambda: ROWS),
        ("half.jsonl.xz", lambda: lzma.compress(ROWS)[:30]),
        ("plain.jsonl.zst", lambda: ROWS),
    ],
)
def test_rows_of_damaged_files(tmp_path, name, damaged):
    (tmp_path / name).write_bytes(damaged())
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        list(read_rows("--pairs", str(tmp_path / name)))


@pytest.mark.parametrize("at", [4, -60])  # the description of a page, of the columns
def test_rows_of_damaged_parquet(tmp_path, at):
    file = tmp_path / "a.parquet"
    table = pyarrow.table({"messages": [f"{number % 7} words" * 20 for number in range(300)]})
    pyarrow.parquet.write_table(table, file, use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[at : at + 24] = b"\xff" * 24
    file.write_bytes(content)
    for read in (lambda: read_rows("--chat", str(file)), lambda: read_files((file,), "messages")):
        with pytest.raises(UserError, match=r"a\.parquet cannot be read as parquet"):
            list(read())


def test_rows_have_their_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n[2]\n')
    assert list(read_rows("--pairs", str(tmp_path))) == [
        (f"{tmp_path}/a.jsonl, line 1", {"a": 1}),
        (f"{tmp_path}/a.jsonl, line 3", [2]),
    ]
