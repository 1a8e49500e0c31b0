"""Every corpus as rows of one length with random access: documents joined by the separator and cut, never padded."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.errors import UserError


class Rows(NamedTuple):
    """`count` rows of one length; `read` gathers those of the given numbers."""

    count: int
    read: Callable[[Integer[np.ndarray, "n"]], Integer[np.ndarray, "n length"]]


class Splits(NamedTuple):
    """A corpus cut into rows."""

    train: Rows
    validation: Rows
    bytes_per_token: float  # of the held-out text
    tokenizer: Tokenizer


class Joined(NamedTuple):
    """Documents as one stream of tokens."""

    tokens: Integer[np.ndarray, "n"]  # in the smallest type that holds V; a separator follows every document
    bytes: int  # of their text in UTF-8
    documents: int
    skipped: int  # rows without text


def join(documents: Iterable[str], tokenizer: Tokenizer) -> Joined:
    """Encodes documents and joins them, those without text left out."""
    dtype = np.min_scalar_type(tokenizer.vocab_size)
    separator = np.array([tokenizer.separator], dtype)
    pieces, size, skipped = [np.empty(0, dtype)], 0, 0
    for document in documents:
        if not document:
            skipped += 1
            continue
        pieces += [tokenizer.encode(document).astype(dtype), separator]
        size += len(document.encode("utf-8"))
    return Joined(np.concatenate(pieces), size, len(pieces) // 2, skipped)


def row_count(tokens: int, length: int, name: str) -> int:
    """How many rows `tokens` make. Raises UserError, with `name`, where there is not one."""
    if tokens < length:
        raise UserError(f"{name}: {tokens} tokens are fewer than one row of {length}")
    return tokens // length


def cut(tokens: Integer[np.ndarray, "n"], length: int, name: str) -> Rows:
    """Consecutive rows; what is left over is dropped. Raises UserError, with `name`, where there is not one."""
    count = row_count(len(tokens), length, name)
    table = tokens[: count * length].reshape(count, length)
    return Rows(count, lambda rows: table[rows])
