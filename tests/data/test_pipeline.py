"""The global batch is a function of the seed and the step: of nothing else."""

import argparse
import inspect
import itertools
import threading
import time

import numpy as np
import pytest

from mdlm_jax.data import pipeline
from mdlm_jax.data.encoded import encode_documents
from mdlm_jax.data.pipeline import open_data
from mdlm_jax.data.rows import cut
from mdlm_jax.errors import UserError
from tests.public_data import write_gpt2

MARKOV = {"source": "markov", "path": "vocab=16,concentration=0.3"}


def open_small(**changed):
    arguments = {
        "source": "text",
        "path": "",
        "validation_path": "",
        "field": "text",
        "tokenizer": "bytes",
        "sequence_length": 8,
        "extra_token": False,
        "keep_documents": False,
        "random_length_rate": 0.0,
        "unique_tokens": 0,
        "epochs": 0,
        "seed": 0,
        "batch_size": 8,
        "validation_rows": 4,
    }
    return open_data(**(arguments | changed))


@pytest.fixture
def numbered(tmp_path):
    """100 rows of 8 bytes, each with its own number, and 4 more held out; 10 numbers a document."""
    text = "".join(f"{number:07d}" + ("\n\f\n" if number % 10 == 9 else " ") for number in range(100))
    # The last number of each document is followed by the separator where the others have a space.
    (tmp_path / "train.txt").write_text(text[: -len("\n\f\n")])
    (tmp_path / "valid.txt").write_text("".join(f"{number:08d}" for number in range(4)))
    return {"path": f"{tmp_path}/train.txt", "validation_path": f"{tmp_path}/valid.txt"}


def numbers(data, batch):
    return [int(data.tokenizer.decode(row)) for row in batch.example.tokens]


def assert_equal(batch, other):
    for left, right in zip((*batch.example, batch.index), (*other.example, other.index), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("source", ["text", "markov"])
@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_batches_do_not_depend_on_hosts_or_restarts(numbered, source, hosts):
    changed = (numbered if source == "text" else MARKOV) | {"random_length_rate": 0.5, "keep_documents": True}
    alone = open_small(**changed)
    together = [open_small(**changed, process_index=p, process_count=hosts) for p in range(hosts)]
    for step in (0, 3, 12, 1000):
        parts = [host.batch(step) for host in together]
        whole = alone.batch(step)
        for name in ("tokens", "segments", "prompt_mask"):
            joined = np.concatenate([getattr(part.example, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole.example, name))
        np.testing.assert_array_equal(np.concatenate([part.index for part in parts]), np.arange(8))
    for host in together:
        np.testing.assert_array_equal(host.validation.tokens, alone.validation.tokens)


def test_types(numbered):
    data = open_small(**numbered)
    batch = data.batch(0)
    assert batch.example.tokens.dtype == batch.example.segments.dtype == batch.index.dtype == np.int32
    assert batch.example.prompt_mask.dtype == bool and not batch.example.prompt_mask.any()
    assert batch.example.tokens.shape == batch.example.segments.shape == batch.example.prompt_mask.shape == (8, 8)
    assert (batch.example.segments == 1).all()
    assert data.vocab_size == 257 and data.validation.tokens.shape == (4, 8)


@pytest.mark.parametrize("ahead", [1, 200, pipeline.AHEAD], ids=["one by one", "3 at once", "all at once"])
def test_prefetched_batches_equal_batch(numbered, monkeypatch, ahead):
    """However many are read at once, also in the last epoch, where fewer are left."""
    monkeypatch.setattr(pipeline, "AHEAD", ahead)
    for changed in ({}, {"random_length_rate": 0.5, "unique_tokens": 240, "epochs": 13}):
        data = open_small(**numbered | changed)
        assert data.max_steps == (48 if changed else None)
        batches = list(zip(range(5, 48), data.batches(5), strict=False))
        assert len(batches) == 43
        for step, batch in batches:
            assert_equal(batch, data.batch(step))


def test_prefetching_stops_with_its_reader(numbered):
    before = threading.active_count()
    batches = open_small(**numbered).batches(0)
    next(batches)
    del batches
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_epochs_have_every_row_once_in_new_order(numbered):
    data = open_small(**numbered)
    stream = list(itertools.chain.from_iterable(numbers(data, data.batch(step)) for step in range(25)))
    first, second = stream[:100], stream[100:]
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second and first != sorted(first)
    assert numbers(data, open_small(**numbered, seed=1).batch(0)) != first[:8]


def test_epochs_end(numbered):
    data = open_small(**numbered, epochs=2)
    assert data.max_steps == 25 and open_small(**numbered).max_steps is None
    assert len(list(data.batches(20))) == 5
    with pytest.raises(UserError, match="step 25: data.epochs=2 ends after 25 steps"):
        data.batch(25)
    with pytest.raises(UserError, match="do not fill one batch"):
        open_small(**numbered, epochs=1, batch_size=128)


def test_unique_tokens_are_nested_and_shared_by_seeds(numbered):
    kept = {}
    for count in (8, 24, 60):
        for seed in (0, 1):
            data = open_small(**numbered, unique_tokens=8 * count + 7, seed=seed)
            assert data.unique_tokens == 8 * count
            epoch = list(itertools.chain.from_iterable(numbers(data, data.batch(step)) for step in range(count // 4)))
            kept[count, seed] = set(epoch[:count])
            assert len(kept[count, seed]) == count and set(epoch) == kept[count, seed]
    assert all(kept[count, 0] == kept[count, 1] for count in (8, 24, 60))
    assert kept[8, 0] < kept[24, 0] < kept[60, 0]
    for unique_tokens in (7, 808):
        with pytest.raises(UserError, match="there are 100"):
            open_small(**numbered, unique_tokens=unique_tokens)


def test_rows_with_an_extra_token(numbered):
    data = open_small(**numbered, extra_token=True)
    assert data.batch(0).example.tokens.shape == (8, 9) and data.validation.tokens.shape == (3, 9)
    assert data.unique_tokens == 88 * 8, "800 tokens are 88 rows of 9, of which 8 count"


def test_documents_kept(tmp_path):
    (tmp_path / "train.txt").write_text("\n\f\n".join(["abc", "d", "efghijkl", "mn"]))
    (tmp_path / "valid.txt").write_text("ab\n\f\ncdefghijklmno")
    paths = {"path": f"{tmp_path}/train.txt", "validation_path": f"{tmp_path}/valid.txt", "batch_size": 2}
    expected = {"abc|d|ef": [1, 1, 1, 1, 2, 2, 3, 3], "ghijkl|m": [1, 1, 1, 1, 1, 1, 1, 2]}
    data = open_small(**paths, keep_documents=True)
    example = data.batch(0).example
    rows = ["".join("|" if token == 256 else chr(token) for token in row) for row in example.tokens.tolist()]
    assert dict(zip(rows, example.segments.tolist(), strict=True)) == expected
    assert data.validation.segments.tolist() in (
        [[1, 1, 1, 2, 2, 2, 2, 2], [1] * 8],
        [[1] * 8, [1, 1, 1, 2, 2, 2, 2, 2]],
    )
    joined = open_small(**paths).batch(0).example
    np.testing.assert_array_equal(joined.tokens, example.tokens)
    assert (joined.segments == 1).all()


def test_random_lengths_are_uniform_at_their_rate():
    """SMDM: the mean length is L (1 - r) + (L + 1) / 2 r."""
    rate, length = 0.25, 8
    data = open_small(**MARKOV, random_length_rate=rate, batch_size=64)
    lengths = np.concatenate([(data.batch(step).example.segments > 0).sum(axis=1) for step in range(200)])
    expected = rate / length + np.where(np.arange(1, length + 1) == length, 1 - rate, 0)
    observed = np.bincount(lengths, minlength=length + 1)[1:] / len(lengths)
    np.testing.assert_allclose(observed, expected, atol=4 * np.sqrt(0.25 / len(lengths)))
    assert (
        abs(lengths.mean() - (length * (1 - rate) + rate * (length + 1) / 2)) < 4 * lengths.std() / len(lengths) ** 0.5
    )
    segments = data.batch(0).example.segments
    assert (np.sort(segments, axis=1)[:, ::-1] == segments).all(), "a prefix is kept"
    whole = open_small(**MARKOV, batch_size=64).batch(0).example
    np.testing.assert_array_equal(data.batch(0).example.tokens, whole.tokens)


def test_random_lengths_with_an_extra_token():
    data = open_small(**MARKOV, random_length_rate=1.0, extra_token=True, batch_size=64)
    lengths = (data.batch(0).example.segments > 0).sum(axis=1)
    assert set(lengths) == set(range(1, 9))


def test_bytes_per_token(numbered, tmp_path):
    assert open_small(**numbered).bytes_per_token == 32 / 33
    assert open_small(**MARKOV).bytes_per_token == 1
    text = inspect.getsource(argparse).encode()
    (tmp_path / "text.txt").write_bytes(text)
    path = str(tmp_path / "text.txt")
    data = open_small(path=path, validation_path=path, tokenizer=str(write_gpt2(tmp_path)))
    tokens = data.unique_tokens + 8
    assert len(text) / tokens < data.bytes_per_token <= len(text) / (tokens - 8)


def test_stdlib_is_encoded_once(monkeypatch):
    """Each document is encoded when the corpus opens; a batch reads its own rows and nothing else."""
    encoded, read = [], []
    monkeypatch.setattr(pipeline, "encode_documents", lambda *rest: encoded.append(rest) or encode_documents(*rest))
    monkeypatch.setattr(pipeline, "cut", lambda *rest: counted(cut(*rest), read))
    data = open_small(source="stdlib", sequence_length=64, batch_size=64)
    assert data.unique_tokens > 5e6
    read.clear()
    for step in range(50):
        data.batch(step)
    assert len(encoded) == 1 and read == [64] * 50


def counted(rows, read):
    """Rows that append to `read` how many of them each call gathers."""
    return rows._replace(read=lambda numbers: read.append(len(numbers)) or rows.read(numbers))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"source": "web"}, "stdlib, text, tfds, tokens, markov"),
        ({"sequence_length": 0}, "sequence_length"),
        ({"process_count": 3}, "batch_size=8 is not divisible by the 3 processes"),
        ({"random_length_rate": 1.5}, "random_length_rate=1.5"),
        ({"epochs": -1}, "epochs=-1"),
        ({"sequence_length": 5000}, "train.txt: 800 tokens are fewer than one row of 5000"),
        ({"sequence_length": 64}, "valid.txt: 33 tokens are fewer than one row of 64"),
        ({"tokenizer": "none.json"}, "none.json"),
    ],
)
def test_errors_name_the_option_or_file(numbered, changed, what):
    with pytest.raises(UserError, match=what):
        open_small(**(numbered | changed))
