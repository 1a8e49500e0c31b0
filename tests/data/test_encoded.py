"""Text is encoded once, and again whenever it or its tokenizer is another."""

import numpy as np
import pytest

from mdlm_jax.data import encoded
from mdlm_jax.data.bpe import train_bpe
from mdlm_jax.data.encoded import encode_documents
from mdlm_jax.data.tokenizer import byte_tokenizer, open_tokenizer


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A function that opens a text, and the folder of its cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(encoded, "SMALL", 10)
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "low lower lowest"}\n{"text": null}\n{"text": "newer wider"}\n' * 20)
    train_bpe(["low lower lowest newer"], 265, tmp_path / "bpe.json")

    def read(tokenizer=None):
        tokenizer = tokenizer or open_tokenizer(tmp_path / "bpe.json")
        return encode_documents("text", str(path), "", "text", tokenizer)

    return read, tmp_path / "cache/mdlm-jax/tokens"


def assert_equal(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.tokens, right.tokens)
        assert left.tokens.dtype == right.tokens.dtype and left[1:] == right[1:]


def test_second_reading_comes_from_the_cache(corpus, monkeypatch):
    read, cache = corpus
    first = read()
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(encoded, "join", None)
    assert_equal(read(), first)


def test_changed_text_or_tokenizer_is_encoded_again(corpus, tmp_path):
    read, cache = corpus
    read()
    (tmp_path / "text.jsonl").write_text('{"text": "low"}\n' * 40)
    assert read().train.documents == 38
    train_bpe(["newer wider"], 262, tmp_path / "bpe.json")
    read()
    assert len(list(cache.glob("*.npy"))) == 3
    read(byte_tokenizer())
    assert len(list(cache.glob("*.npy"))) == 3, "bytes are the text itself"


def test_bytes_stay_in_memory(corpus, tmp_path):
    """Until the text changes, or is split in another way."""
    read, _ = corpus
    first = read(byte_tokenizer())
    assert read(byte_tokenizer()) is first
    (tmp_path / "text.jsonl").write_text('{"text": "low"}\n' * 40)
    assert read(byte_tokenizer()).train.documents == 38
    (tmp_path / "other.jsonl").write_text('{"text": "new"}\n')
    paths = [str(tmp_path / name) for name in ("text.jsonl", "other.jsonl")]
    whole = encode_documents("text", ",".join(paths), "", "text", byte_tokenizer())
    apart = encode_documents("text", *paths, "text", byte_tokenizer())
    assert (whole.validation.documents, apart.validation.documents) == (3, 1)


@pytest.mark.parametrize("suffix", [".json", ".npy"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"[[1, 2, 3, 4], [5, 6, 7, 8]]", b"\x93NUMPY"])
def test_damaged_entry_is_encoded_again(corpus, suffix, content):
    read, cache = corpus
    first = read()
    (entry,) = cache.glob(f"*{suffix}")
    if content is None:
        entry.unlink()
    else:
        entry.write_bytes(content)
    assert_equal(read(), first)
    assert_equal(encoded._read(entry), first)


def test_cache_size_is_bounded(corpus, tmp_path, monkeypatch):
    read, cache = corpus
    read()
    (size,) = (file.stat().st_size for file in cache.glob("*.npy"))
    monkeypatch.setattr(encoded, "KEPT_BYTES", 2.5 * size)
    for number in range(4):
        with open(tmp_path / "text.jsonl", "a") as text:
            text.write('{"text": "a"}\n' * (number + 1))
        read()
        assert len(list(cache.glob("*.npy"))) <= 2
