"""Prompts and answers: the lines of a .jsonl file, or pairs of texts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mdlm_jax.data.files import read_rows
from mdlm_jax.data.readers import as_text, find
from mdlm_jax.errors import UserError

NAMES = ("prompt", "answer")


class Pair(NamedTuple):
    where: str  # file and line, for errors
    prompt: str
    answer: str


def pairs_of(pairs: Sequence[Sequence[str]]) -> list[Pair]:
    """Pairs that are given as (prompt, answer).

    Raises:
        UserError: There is none, or one is not two texts.
    """
    found = []
    for number, pair in enumerate(pairs, start=1):
        where = f"pair {number}"
        if isinstance(pair, str) or len(pair) != 2:
            raise UserError(f"{where}: found {pair!r}; accepted: (prompt, answer)")
        found.append(Pair(where, *(as_text(f"{where}, {name}", text) for name, text in zip(NAMES, pair, strict=True))))
    if not found:
        raise UserError("pairs holds none; accepted: (prompt, answer) of each pair, one pair or more")
    return found


def read_pairs(path: str, prompt_field: str, answer_field: str) -> list[Pair]:
    """The pairs of a .jsonl file, which may be compressed.

    Args:
        path: The file, or comma-separated files, folders and globs.
        prompt_field: The field with the prompt; a.b is the field b of the field a.
        answer_field: The field with the answer.

    Raises:
        UserError: There is no such file, or a line is no pair.
    """
    fields = (prompt_field, answer_field)
    pairs = [_pair(where, row, fields) for where, row in read_rows("--pairs", path)]
    if not pairs:
        raise UserError(f"--pairs={path} holds no pairs; accepted: one object a line, with {' and '.join(fields)}")
    return pairs


def _pair(where: str, row: Any, fields: tuple[str, str]) -> Pair:
    try:
        texts = [find(row, field) for field in fields]
    except KeyError:
        found = f"the fields {', '.join(row)}" if isinstance(row, dict) else type(row).__name__
        accepted = f"an object with the fields {' and '.join(fields)}; --prompt-field and --answer-field name others"
        raise UserError(f"{where}: found {found}; accepted: {accepted}") from None
    return Pair(where, *(as_text(f"{where}, {field}", text) for field, text in zip(fields, texts, strict=True)))
