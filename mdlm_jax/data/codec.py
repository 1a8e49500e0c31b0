"""Encodes and decodes with any model of the `tokenizers` library, by three rules that the library does not keep.

Text never yields the separator, not even where it spells it. Added tokens decode to their own text. Each distinct word
is encoded once where that is known to give the ids of the whole text.
"""

import functools
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Integer
from numpy.typing import ArrayLike

from mdlm_jax.data.words import may_be_cut, pieces, word_encoder

END_OF_TEXT = "<|endoftext|>"
# What published vocabularies call the token between two documents, the commonest first.
SEPARATORS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")


class Codec(NamedTuple):
    """Converts text to ids and back."""

    pieces: Callable[[str], Iterator[str]]  # consecutive; their ids one after another are those of the text
    encode_batch: Callable[[list[str]], list[Integer[np.ndarray, "n"]]]
    decode: Callable[[ArrayLike], str]
    vocab_size: int  # V, the separator included
    separator: int


def open_codec(content: str | bytes) -> Codec:
    """The codec of a `tokenizers` JSON file. Raises what the library raises where it is none."""
    described = json.loads(content)
    separator = _hide_separator(described)
    described["truncation"] = described["padding"] = None
    if "dropout" in described["model"]:
        described["model"]["dropout"] = None  # a text has one encoding
    if byte_level := (described.get("decoder") or {}).get("type") == "ByteLevel":
        _drop_ambiguous(described)
    model = tokenizers.Tokenizer.from_str(json.dumps(described))
    # Markup such as </s> inside a document is text like any other: only the packer writes separators.
    model.encode_special_tokens = True
    size = max(model.get_vocab(with_added_tokens=True).values()) + 1
    if separator is None:
        separator, size = size, size + 1
    decode_ids = _byte_decoder(model, described) if byte_level else _library_decoder(model)

    def decode(ids: ArrayLike) -> str:
        return decode_ids([token for token in np.asarray(ids).tolist() if token != separator])

    if may_be_cut(described):
        return Codec(pieces, word_encoder(model), decode, size, separator)
    return Codec(lambda text: iter([text]), functools.partial(_encode_batch, model), decode, size, separator)


def byte_level(bpe: tokenizers.models.BPE) -> tokenizers.Tokenizer:
    """GPT-2's reading of text as bytes, split by its regular expression."""
    model = tokenizers.Tokenizer(bpe)
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    return model


def _hide_separator(described: dict[str, Any]) -> int | None:
    """Renames the separator to a name that no text can contain, and returns its id; None if the model has none.

    Text can yield the separator if it is an added token, a word of the vocabulary, or the result of merges. The
    token of unknown text cannot be the separator.
    """
    model = described["model"]
    vocabulary = _vocabulary(model)
    added = {token["content"]: token["id"] for token in described.get("added_tokens") or ()}
    ids = vocabulary | added
    unknown = (model.get("unk_token"), model.get("unk_id"))
    name = next((name for name in SEPARATORS if name in ids and name not in unknown and ids[name] not in unknown), None)
    if name is None:
        return None
    hidden = secrets.token_hex(16)
    for token in described.get("added_tokens") or ():
        if token["content"] == name:
            token |= {"content": hidden, "special": True}
    if isinstance(model["vocab"], list):
        model["vocab"] = [[hidden if piece == name else piece, score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {hidden if piece == name else piece: token for piece, token in vocabulary.items()}
    if "merges" in model:
        pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        model["merges"] = [list(pair) for pair in pairs if name not in (*pair, "".join(pair))]
    return ids[name]


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    if isinstance(model["vocab"], list):
        return {piece: token for token, (piece, _) in enumerate(model["vocab"])}
    return model["vocab"]


def _drop_ambiguous(described: dict[str, Any]) -> None:
    """An added token such as 'é' that is also the model's name of a byte is read as the bytes of its text."""
    vocabulary = _vocabulary(described["model"])
    described["added_tokens"] = [
        token
        for token in described.get("added_tokens") or ()
        if token["content"].isascii() or vocabulary.get(token["content"]) != token["id"]
    ]


def _library_decoder(model: tokenizers.Tokenizer) -> Callable[[list[int]], str]:
    return lambda ids: model.decode(ids, skip_special_tokens=False)


def _byte_decoder(model: tokenizers.Tokenizer, described: dict[str, Any]) -> Callable[[list[int]], str]:
    """The library takes the letters of added tokens for bytes where the byte-level alphabet has them."""
    added = {token["id"]: token["content"].encode() for token in described.get("added_tokens") or ()}
    alphabet = _byte_alphabet()

    @functools.cache
    def content(token: int) -> bytes:
        text = added.get(token) or model.id_to_token(token) or ""
        if isinstance(text, bytes):
            return text
        return bytes(alphabet[letter] for letter in text) if alphabet.keys() >= set(text) else text.encode()

    return lambda ids: b"".join(map(content, ids)).decode("utf-8", errors="replace")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones are themselves, the others follow from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


def _encode_batch(model: tokenizers.Tokenizer, texts: list[str]) -> list[Integer[np.ndarray, "n"]]:
    encoded = model.encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(encoding.ids, np.int32) for encoding in encoded]
