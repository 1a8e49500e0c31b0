"""Rows for zero-shot perplexity, cut as in published evaluations: those of SEDD and those of MDLM."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mdlm_jax.data import Example
from mdlm_jax.data.detokenize import detokenizer
from mdlm_jax.data.digest import corpus_digest
from mdlm_jax.data.files import expand, read_files, reads_field
from mdlm_jax.data.readers import BETWEEN_DOCUMENTS
from mdlm_jax.data.tokenizer import Tokenizer, encode_given
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import loss_mask
from mdlm_jax.runs.evaluation_options import check_length
from mdlm_jax.runs.held_out import HeldOut
from mdlm_jax.runs.protocols import PROTOCOLS
from mdlm_jax.runs.restore import Run


class Stream(NamedTuple):
    """Documents as one stream of tokens, each followed by a separator."""

    tokens: Int[np.ndarray, "n"]
    documents: int
    bytes: int  # of their text in UTF-8, detokenized


def open_protocol(
    run: Run,
    name: str,
    path: str,
    *,
    detokenize: str | None = None,
    field: str | None = None,
    length: int | None = None,
) -> HeldOut:
    """The rows of a test set under a protocol of PROTOCOLS.

    The published loaders cut each of several parts of the data alone, as many as they have processes, and drop the last
    row of each. Here the data are one part.

    Args:
        run: The run.
        name: A key of PROTOCOLS.
        path: Files as in `data.path`: the split that the protocol names.
        detokenize: A key of RULES: the test set whose word tokenization is undone first. None: none is.
        field: The field with the text; None for the run's own `data.field`.
        length: Tokens of a row; None for those of a row in training.

    Raises:
        UserError: The files cannot be read or fill no row, or the run's tokens are no text.
    """
    config, tokenizer = run.config, run.tokenizer
    check_length(config, length)
    length = config.data.sequence_length if length is None else length
    if tokenizer.separator < 0:
        raise UserError(f"--protocol={name}: the tokens of this run are no text; accepted: a run on text")
    field = config.data.field if field is None else field
    stream = read_stream(documents(expand("--path", path), field), tokenizer, detokenize)
    rows = cut(stream.tokens, length, tokenizer.separator if name == "mdlm" else None)
    if not len(rows):
        raise UserError(f"--path={path}: {len(stream.tokens)} tokens fill no row of {length}; accepted: a longer text")
    exact = (run.objective.evaluate or run.objective).bound == "exact"
    starts_inside = config.objective.name == "ar" and config.data.extra_token  # no start symbol
    given = max(config.data.prompt_tokens, int(starts_inside), int(exact and name == "mdlm"))
    example = Example(rows, np.ones_like(rows), np.broadcast_to(np.arange(length) < given, rows.shape))
    own = rows[:, 1:-1].size if name == "mdlm" else rows[:, given:].size
    scored = int(np.asarray(loss_mask(example)).sum())
    described = {
        "source": "text",
        "path": path,
        "sequences": len(rows),
        "digest": corpus_digest("text", path, "", field),
        "protocol": {
            "name": name,
            "rule": PROTOCOLS[name],
            "detokenize": detokenize,
            "row_length": length,
            "separator": int(tokenizer.separator),
            "documents": stream.documents,
            "tokens": len(stream.tokens),
            "dropped_tokens": len(stream.tokens) - (rows[:, 1:-1] if name == "mdlm" else rows).size,
        },
    }
    return HeldOut(example, stream.bytes / len(stream.tokens) * own / scored, described)


def documents(files: Iterable[pathlib.Path], field: str) -> Iterator[str]:
    """Each line of .txt files with its end, '' for a blank one, and each row of other files."""
    for file in files:
        if reads_field(file):
            yield from read_files((file,), field)
            continue
        *lines, last = BETWEEN_DOCUMENTS.join(read_files((file,), field)).split("\n")
        for line in [f"{line}\n" for line in lines] + [last] * bool(last):
            yield line if line.strip() else ""


def read_stream(texts: Iterable[str], tokenizer: Tokenizer, detokenize: str | None = None) -> Stream:
    """Encodes documents, each followed by a separator, also empty ones.

    Args:
        texts: The documents.
        tokenizer: Of the run.
        detokenize: A key of RULES; None leaves the text as it is.
    """
    change = (lambda text: text) if detokenize is None else detokenizer(detokenize)
    separator = np.array([tokenizer.separator], np.int32)
    tokens, size, count = [np.zeros(0, np.int32)], 0, 0
    for text in map(change, texts):
        tokens += [encode_given("--path", text, tokenizer), separator]
        size += len(text.encode())
        count += 1
    return Stream(np.concatenate(tokens), count, size)


def cut(tokens: Int[np.ndarray, "n"], length: int, around: int | None = None) -> Int[np.ndarray, "rows length"]:
    """Whole rows of `length` tokens, one after another; what is left is dropped.

    Args:
        tokens: The stream.
        length: Tokens of a row.
        around: A token that is added before and after each row, inside its length. None: none is.

    Raises:
        UserError: A row has no room for tokens of the stream.
    """
    width = length - 2 * (around is not None)
    if width < 1:
        raise UserError(f"--length={length}; accepted: 3 or more, two separators and a token")
    rows = tokens[: len(tokens) // width * width].reshape(-1, width)
    return rows if around is None else np.pad(rows, ((0, 0), (1, 1)), constant_values=around)
