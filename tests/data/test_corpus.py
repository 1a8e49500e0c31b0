"""A built corpus reads as the text it was built from, and a half-built one is not read at all."""

import errno
import hashlib
import json
import multiprocessing.context
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mdlm_jax.data import corpus
from mdlm_jax.data.bpe import train_bpe
from mdlm_jax.data.build import build_corpus
from mdlm_jax.data.pipeline import open_data
from mdlm_jax.errors import UserError


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """About 1 MB in 40 documents, longer than one task of a worker and than many records."""
    folder = tmp_path_factory.mktemp("text")
    words = np.random.default_rng(0).choice(["alpha", "beta ", "gamma\n", "délta", "ε "], size=(40, 6000))
    (folder / "train.txt").write_text("\n\f\n".join("".join(row) for row in words))
    (folder / "valid.txt").write_text("".join(words[0][:3000]))
    return {"path": f"{folder}/train.txt", "validation_path": f"{folder}/valid.txt", "field": ""}


@pytest.fixture(scope="module")
def built(text, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "corpus"
    return output, build_corpus(output, source="text", **text, tokenizer="bytes", workers=2)


def open_rows(source, text, length=100, tokenizer="bytes"):
    return open_data(
        source=source,
        **text,
        tokenizer=tokenizer,
        sequence_length=length,
        extra_token=False,
        keep_documents=True,
        random_length_rate=0.0,
        unique_tokens=0,
        epochs=0,
        seed=0,
        batch_size=16,
        validation_rows=8,
    )


def as_built(folder):
    return {"path": str(folder), "validation_path": "", "field": ""}


@pytest.mark.parametrize("length", [1, 100, corpus.CHUNK - 1, corpus.CHUNK, 10_000])
def test_rows_match_the_text(text, built, length):
    """The sequence length is chosen when reading: a row may span one record or four."""
    from_text, from_shards = open_rows("text", text, length), open_rows("tokens", as_built(built[0]), length)
    for step in range(4):
        for left, right in zip(from_text.batch(step).example, from_shards.batch(step).example, strict=True):
            np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(from_text.validation.tokens, from_shards.validation.tokens)
    assert from_text.bytes_per_token == from_shards.bytes_per_token
    assert from_text.unique_tokens == from_shards.unique_tokens


def test_manifest(text, built):
    output, manifest = built
    assert manifest == corpus.read_manifest(output)
    written = json.loads((output / "manifest.json").read_text())
    assert written == manifest | {"sha256": corpus.manifest_digest(manifest)}
    train = pathlib.Path(text["path"]).read_text().split("\n\f\n")
    size = sum(len(document.encode()) for document in train)
    tokens = size + len(train)
    assert manifest["splits"]["train"] == {
        "documents": 40,
        "skipped": 0,
        "tokens": tokens,
        "bytes": size,
        "records": -(-tokens // corpus.CHUNK),
    }
    assert manifest["tokenizer"]["vocab_size"] == 257 and manifest["tokenizer"]["separator"] == 256
    for file, path in zip(manifest["files"], (text["path"], text["validation_path"]), strict=True):
        content = pathlib.Path(path).read_bytes()
        assert file == {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert not list(output.parent.glob("*.incomplete"))


def test_number_of_workers_changes_nothing(text, built, tmp_path):
    build_corpus(tmp_path / "one", source="text", **text, tokenizer="bytes", workers=1)
    shards = sorted(file.name for file in built[0].glob("*.array_record*"))
    assert shards
    for name in shards:
        assert (tmp_path / "one" / name).read_bytes() == (built[0] / name).read_bytes()


STOP_HALF_WAY = """
import multiprocessing, sys, time
from mdlm_jax.data import build, rows

def half(source, *arguments):
    documents = whole(source, *arguments)
    readings = iter((40, 30))
    def train():
        stop = next(readings)
        for number, document in enumerate(documents.train()):
            if number == stop:
                print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
                time.sleep(600)
            yield document
    return documents._replace(train=train)

if __name__ == "__main__":
    whole, build.open_documents, rows.BATCH_CHARACTERS = build.open_documents, half, 1
    output, path, validation_path = sys.argv[1:]
    paths = {"path": path, "validation_path": validation_path, "field": ""}
    build.build_corpus(output, source="text", **paths, tokenizer="bytes", workers=2)
"""


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = pathlib.Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


@pytest.mark.slow
def test_killed_build_is_never_read_and_restarts(text, built, tmp_path):
    output, script = tmp_path / "corpus", tmp_path / "half.py"
    script.write_text(STOP_HALF_WAY)
    command = [sys.executable, str(script), str(output), text["path"], text["validation_path"]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.split() and all(word.isdigit() for word in line.split()):
            break
    workers = [int(pid) for pid in line.split()]
    assert len(workers) == 2 and all(map(running, workers))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()

    incomplete = tmp_path / "corpus.incomplete"
    assert list(incomplete.glob("*.array_record*")) and not output.exists()
    for folder in (output, incomplete):
        with pytest.raises(UserError, match="no finished corpus"):
            open_rows("tokens", as_built(folder))
    deadline = time.monotonic() + 10
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, workers)), "workers end with their parent"

    manifest = build_corpus(output, source="text", **text, tokenizer="bytes", workers=2)
    assert manifest == built[1] and not incomplete.exists()
    for file in built[0].iterdir():
        if ".array_record" in file.name:
            assert (output / file.name).read_bytes() == file.read_bytes()


def test_damaged_text_is_found_before_writing(text, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    for changed in ({"path": f"{tmp_path}/bad.txt"}, {"validation_path": f"{tmp_path}/bad.txt"}):
        with pytest.raises(UserError, match="bad.txt is not UTF-8"):
            build_corpus(tmp_path / "corpus", source="text", **(text | changed), tokenizer="bytes", workers=1)
        assert [file.name for file in tmp_path.iterdir()] == ["bad.txt"]


def test_too_many_workers_are_refused(text, tmp_path, monkeypatch):
    """As where the system has no more processes to give."""
    start, started = multiprocessing.context.SpawnProcess.start, []

    def start_one(process):
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(process)
        start(process)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", start_one)
    with pytest.raises(UserError, match="--workers=2: process 2 cannot be started .Resource.*; accepted: fewer"):
        build_corpus(tmp_path / "corpus", source="text", **text, tokenizer="bytes", workers=2)
    assert not started[0].is_alive() and not list(tmp_path.iterdir())


def test_corpus_is_never_overwritten(text, built, tmp_path):
    with pytest.raises(UserError, match="exists"):
        build_corpus(built[0], source="text", **text, tokenizer="bytes", workers=1)
    with pytest.raises(UserError, match="workers=0"):
        build_corpus(tmp_path / "corpus", source="text", **text, tokenizer="bytes", workers=0)
    with pytest.raises(UserError, match="markov"):
        build_corpus(tmp_path / "corpus", source="markov", **text, tokenizer="bytes", workers=1)


def test_corpus_needs_its_own_tokenizer(text, tmp_path):
    tokenizer = str(tmp_path / "bpe.json")
    train_bpe([pathlib.Path(text["path"]).read_text()], 270, tokenizer)
    output = tmp_path / "corpus"
    build_corpus(output, source="text", **text, tokenizer=tokenizer, workers=1)
    from_text, from_shards = (
        open_rows("text", text, 64, tokenizer),
        open_rows("tokens", as_built(output), 64, tokenizer),
    )
    np.testing.assert_array_equal(from_text.batch(3).example.tokens, from_shards.batch(3).example.tokens)
    with pytest.raises(UserError, match="data.tokenizer='bytes'.*bpe.json"):
        open_rows("tokens", as_built(output))
