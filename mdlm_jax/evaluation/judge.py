"""The likelihood of generated text under an autoregressive judge, which may read other tokens: text joins the two."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mdlm_jax.data.tokenizer import Tokenizer

BUCKET = 64  # tokens: rows whose lengths round up to the same multiple share a program

# tokens of the judge -> the nats of each, NaN where it has none: `negative_log_likelihood` of some network
NatsFn = Callable[[Int[np.ndarray, "B L"]], Float[np.ndarray, "B L"]]


class Judged(NamedTuple):
    """What a judge says of the drawn text of B rows."""

    nats: Float[np.ndarray, "B"]
    tokens: Int[np.ndarray, "B"]  # of the judge, which have these nats together
    bytes: Int[np.ndarray, "B"] | None = None  # of the same text in UTF-8; None where tokens are no text


class Piece(NamedTuple):
    """Consecutive tokens that were all drawn or all given, without a separator."""

    tokens: Int[np.ndarray, "n"]
    drawn: bool
    begins: bool  # a separator is before it


def judge_tokens(
    nats_of: NatsFn,
    tokenizer: Tokenizer | None,
    tokens: Int[np.ndarray, "B L"],
    drawn: Bool[np.ndarray, "B L"],
) -> Judged:
    """Judges rows by a judge that reads the same tokens.

    Args:
        nats_of: The nats of the judge.
        tokenizer: Of both; None where tokens are no text.
        tokens: The rows.
        drawn: Which tokens a sampler drew: their nats count.
    """
    nats = np.asarray(nats_of(tokens), np.float64)
    judged = drawn & ~np.isnan(nats)
    size = None
    if tokenizer is not None:
        own = [list(pieces(row, kept, tokenizer.separator)) for row, kept in zip(tokens, judged, strict=True)]
        size = np.array([sum(_bytes(tokenizer, piece) for piece in row if piece.drawn) for row in own])
    return Judged(nats.sum(axis=1, where=judged), judged.sum(axis=1), size)


def judge_text(
    nats_of: NatsFn,
    judge: Tokenizer,
    reads_start: bool,
    tokenizer: Tokenizer,
    tokens: Int[np.ndarray, "B L"],
    drawn: Bool[np.ndarray, "B L"],
) -> Judged:
    """Judges rows by a judge with another tokenizer, which reads the same text.

    Given and drawn text become tokens of the judge separately. A separator of the row is the judge's own, which has no
    nats here: only text is common to the two.

    Args:
        nats_of: The nats of the judge.
        judge: Its tokenizer.
        reads_start: It reads a start symbol; otherwise its separator stands before each row.
        tokenizer: Of the rows.
        tokens: The rows.
        drawn: Which tokens a sampler drew: the nats of their text count.
    """
    rows, counted = [], []
    size = np.zeros(len(tokens), int)
    for index, (row, kept) in enumerate(zip(tokens, drawn, strict=True)):
        ids, counts = ([], []) if reads_start else ([judge.separator], [False])
        for piece in pieces(row, kept, tokenizer.separator):
            text = judge.encode(tokenizer.decode(piece.tokens)).tolist()
            ids += [judge.separator] * piece.begins + text
            counts += [False] * piece.begins + [piece.drawn] * len(text)
            size[index] += _bytes(tokenizer, piece) * piece.drawn
        rows.append(ids)
        counted.append(counts)
    width = -(-max(map(len, rows), default=1) // BUCKET) * BUCKET
    # what follows a row does not change its nats: the judge reads from left to right
    read, scored = (np.array([row + [0] * (width - len(row)) for row in part]) for part in (rows, counted))
    nats = np.asarray(nats_of(read), np.float64)
    return Judged(nats.sum(axis=1, where=scored.astype(bool)), scored.sum(axis=1), size)


def pieces(tokens: Int[np.ndarray, "L"], drawn: Bool[np.ndarray, "L"], separator: int) -> Iterator[Piece]:
    """The pieces of a row, between separators and where what was given meets what was drawn.

    >>> [(piece.tokens.tolist(), piece.drawn) for piece in pieces(np.array([5, 6, 9, 7]), np.arange(4) > 0, 9)]
    [([5], False), ([6], True), ([7], True)]
    """
    ends = tokens == separator
    group = np.cumsum(np.append(False, (drawn[1:] != drawn[:-1]) | ends[1:] | ends[:-1]))
    begins = False
    for number in range(group[-1] + 1):
        own = group == number
        if ends[own][0]:
            begins = True
            continue
        yield Piece(tokens[own], bool(drawn[own][0]), begins)
        begins = False


def _bytes(tokenizer: Tokenizer, piece: Piece) -> int:
    return len(tokenizer.decode(piece.tokens).encode())
