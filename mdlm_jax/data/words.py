"""Encodes a long text word by word, where that is known to give the ids of the whole text."""

import array
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Integer

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Those of GPT-2, of GPT-4 and Llama 3, and of Qwen 2. None looks back, and in none does a match go on from what is no
# white space to a space, or from a letter to a line's end or one of these marks: text may be cut there.
PATTERNS = (GPT2_PATTERN, GPT4_PATTERN, GPT4_PATTERN.replace("{1,3}", ""))
LETTERS = "A-Za-zÀ-ÖØ-öø-ɏА-я\u4e00-\u9fff"
CUT = re.compile(rf"\S(?= )|[{LETTERS}](?=[\n，。])")
WORD = re.compile(rf" *+[{LETTERS}]++(?=[ \n,.;:!?，。]|\Z)| *[^ ]*+(?:(?<=[^\S ]) ++[^ ]*+)*+")

PIECE_CHARACTERS = 20_000
KEPT_CHARACTERS = 64  # of a word whose ids are kept
KEPT_WORDS = 1 << 19


def word_encoder(model: tokenizers.Tokenizer) -> Callable[[list[str]], list[Integer[np.ndarray, "n"]]]:
    """Encodes each distinct word once: most words of a long text repeat earlier ones."""
    known: dict[str, bytes] = {}  # ids as int32: bytes are joined faster than numbers
    lock = threading.Lock()

    def encode_batch(texts: list[str]) -> list[Integer[np.ndarray, "n"]]:
        words = [WORD.findall(text) for text in texts]
        with lock:
            new = list(set(itertools.chain.from_iterable(words)) - known.keys())
            encoded = model.encode_batch_fast(new, add_special_tokens=False)
            known.update(zip(new, (array.array("i", encoding.ids).tobytes() for encoding in encoded), strict=True))
            ids = [np.frombuffer(b"".join(map(known.__getitem__, row)), np.int32) for row in words]
            for word in new if len(known) < KEPT_WORDS else list(known):
                if len(word) > KEPT_CHARACTERS or len(known) >= KEPT_WORDS:
                    del known[word]
        return ids

    return encode_batch


def pieces(text: str) -> Iterator[str]:
    """Consecutive pieces of a text, each of PIECE_CHARACTERS or, where it cannot be cut there, more."""
    begin = 0
    while found := CUT.search(text, begin + PIECE_CHARACTERS):
        yield text[begin : found.end()]
        begin = found.end()
    yield text[begin:]


def may_be_cut(described: dict[str, Any]) -> bool:
    """Whether words and pieces have the ids of the whole text, by what comes before the model."""
    normalizer, split = described.get("normalizer"), described.get("pre_tokenizer") or {}
    steps = split["pretokenizers"] if split.get("type") == "Sequence" else [split]
    matched = [token for token in described.get("added_tokens") or () if not token["special"]]
    return (
        (normalizer is None or normalizer["type"] == "NFC")
        and all(map(_splits_at_cuts, steps))
        and steps[-1].get("type") == "ByteLevel"
        and any(step.get("type") == "Split" or step.get("use_regex", True) for step in steps)
        and not any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in matched)
        and not any(re.search(rf"{CUT.pattern}|[{LETTERS}][,.;:!?]", token["content"]) for token in matched)
    )


def _splits_at_cuts(step: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer cuts at the ends of words, or at least leaves both sides of them as they are."""
    if step.get("type") == "ByteLevel":
        return not step["add_prefix_space"]
    if step.get("type") == "Split":
        known = step["pattern"].get("Regex") in PATTERNS
        return known and step["behavior"] == "Isolated" and not step["invert"]
    return step.get("type") == "Digits"
