"""A corpus as rows of one length with random access: documents are joined by the separator and cut, never padded."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from mdlm_jax.data import Example
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.errors import UserError

BATCH_CHARACTERS = 1 << 20


class Rows(NamedTuple):
    """`count` rows of one length; `read` gathers rows by number, as tokens, or whole where they have prompts."""

    count: int
    read: Callable[[Integer[np.ndarray, "n"]], Integer[np.ndarray, "n length"] | Example]


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
    skipped: int  # rows without text, left out


class Piece(NamedTuple):
    """A document, or a part of a long one."""

    text: str
    ends: bool  # whether its document ends here


def join(documents: Iterable[str], tokenizer: Tokenizer) -> Joined:
    """Encodes documents and joins them. Documents without text are left out and counted."""
    joined = [encode(batch, tokenizer) for batch in [[], *batches(documents, tokenizer)]]
    tokens, *counts = zip(*joined, strict=True)
    return Joined(np.concatenate(tokens), *map(sum, counts))


def encode(batch: list[Piece], tokenizer: Tokenizer) -> Joined:
    """Encodes consecutive pieces and joins their documents."""
    dtype = np.min_scalar_type(tokenizer.vocab_size)
    separator = np.array([tokenizer.separator], dtype)
    texts = [piece for piece in batch if piece.text]
    tokens = [np.empty(0, dtype)]
    for piece, ids in zip(texts, tokenizer.encode_batch([piece.text for piece in texts]), strict=True):
        tokens += [ids.astype(dtype), separator][: 1 + piece.ends]
    size = sum(len(piece.text.encode("utf-8")) for piece in texts)
    documents = sum(piece.ends for piece in texts)
    return Joined(np.concatenate(tokens), size, documents, len(batch) - len(texts))


def batches(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[list[Piece]]:
    """Groups documents into lists of about BATCH_CHARACTERS; cuts long ones into pieces that encode independently."""
    batch, size = [], 0
    for document in documents:
        parts = list(tokenizer.pieces(document))
        for number, part in enumerate(parts, start=1):
            batch.append(Piece(part, number == len(parts)))
            size += len(part)
            if size >= BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def row_count(tokens: int, length: int, name: str) -> int:
    """The number of whole rows of `length` in a stream of `tokens`.

    Raises:
        UserError: There is not one row; the message starts with `name`.
    """
    if tokens < length:
        raise UserError(f"{name}: {tokens} tokens are fewer than one row of {length}")
    return tokens // length


def cut(tokens: Integer[np.ndarray, "n"], length: int, name: str) -> Rows:
    """Cuts a stream into consecutive rows of `length` and drops the remainder.

    Raises:
        UserError: There is not one row; the message starts with `name`.
    """
    count = row_count(len(tokens), length, name)
    table = tokens[: count * length].reshape(count, length)
    return Rows(count, lambda rows: table[rows])
