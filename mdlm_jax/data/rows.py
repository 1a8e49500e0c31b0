"""Every corpus as rows of one length with random access: documents joined by the separator and cut, never padded."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mdlm_jax.data.markov import markov_chain, parse_markov, sample_rows
from mdlm_jax.data.sources import DOCUMENTS, open_documents
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer, state_tokenizer
from mdlm_jax.errors import UserError

MARKOV_ROWS = 2**31  # more than any run reads, and as many as grain shuffles


class Rows(NamedTuple):
    """`count` rows of one length; `read` gathers those of the given numbers."""

    count: int
    read: Callable[[Int[np.ndarray, "n"]], Int[np.ndarray, "n length"]]


class Splits(NamedTuple):
    """A corpus cut into rows."""

    train: Rows
    validation: Rows
    bytes_per_token: float  # of the held-out text
    tokenizer: Tokenizer


def open_splits(source: str, path: str, validation_path: str, field: str, tokenizer: str, length: int) -> Splits:
    """Rows of `length` tokens from the source `stdlib`, `text`, `tfds` or `markov`.

    `markov` makes its own tokens: `tokenizer` says nothing there. Raises UserError for an unknown source, and where
    a split is shorter than one row.
    """
    if source == "markov":
        return _markov(path, length)
    if source not in DOCUMENTS:
        raise UserError(f"data.source={source!r}; accepted: {', '.join(DOCUMENTS)}, markov")
    documents = open_documents(source, path, validation_path, field)
    opened = open_tokenizer(tokenizer)
    train, _ = join(documents.train(), opened)
    validation, size = join(documents.validation(), opened)
    return Splits(
        train=cut(train, length, f"the training text of data.source={source!r}, {path}"),
        validation=cut(validation, length, f"the held-out text of data.source={source!r}, {validation_path or path}"),
        bytes_per_token=size / len(validation),
        tokenizer=opened,
    )


def join(documents: Iterable[str], tokenizer: Tokenizer) -> tuple[Int[np.ndarray, "n"], int]:
    """(the tokens of all documents, a separator after each, in the smallest type that holds V; their UTF-8 bytes)."""
    dtype = np.min_scalar_type(tokenizer.vocab_size)
    separator = np.array([tokenizer.separator], dtype)
    pieces, size = [], 0
    for document in documents:
        pieces += [tokenizer.encode(document).astype(dtype), separator]
        size += len(document.encode("utf-8"))
    return np.concatenate(pieces) if pieces else np.empty(0, dtype), size


def cut(tokens: Int[np.ndarray, "n"], length: int, name: str) -> Rows:
    """Consecutive rows; what is left over is dropped. Raises UserError, with `name`, where there is not one."""
    count = len(tokens) // length
    if not count:
        raise UserError(f"{name}: {len(tokens)} tokens are fewer than one row of {length}")
    table = tokens[: count * length].reshape(count, length)
    return Rows(count, lambda rows: table[rows])


def _markov(path: str, length: int) -> Splits:
    vocab, concentration, seed = parse_markov(path)
    chain = markov_chain(vocab, concentration, seed)

    def rows(split: int) -> Rows:
        return Rows(MARKOV_ROWS, lambda numbers: sample_rows(*chain, 2 * seed + split, numbers, length))

    return Splits(train=rows(0), validation=rows(1), bytes_per_token=1.0, tokenizer=state_tokenizer(vocab))
