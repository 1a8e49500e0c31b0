"""Requests of the harness as tokens: what is given, and what is scored."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.harness.reader import Reader


class Scored(NamedTuple):
    """An answer after what is given, which together fit in a row."""

    given: tuple[int, ...]
    answer: tuple[int, ...]


class Parts(Sequence[Scored]):
    """What is scored of many texts, made from a text each time it is asked for: tokens take more memory than text.

    Args:
        texts: The texts.
        parts_of: What is scored of one.
    """

    def __init__(self, texts: Sequence[Any], parts_of: Callable[[Any], list[Scored]]) -> None:
        self.counts = [len(parts_of(text)) for text in texts]
        self.starts = np.cumsum([0, *self.counts])
        self.read = lru_cache(maxsize=1)(lambda number: parts_of(texts[number]))

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, index: int) -> Scored: ...

    @overload
    def __getitem__(self, index: slice) -> list[Scored]: ...

    def __getitem__(self, index: int | slice) -> Scored | list[Scored]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self.starts, index, "right")) - 1
        return self.read(number)[index - self.starts[number]]


def pair(reader: Reader, context: str, continuation: str) -> Scored:
    """The tokens of a `loglikelihood` request, as the harness's `hf` model splits them.

    Blanks at the end of the context belong to the continuation. The two are encoded as one text, which is cut where the
    context alone would end. Where both are too long for a row, the first tokens are left out.

    Raises:
        UserError: The continuation has no tokens, or more than a row has.
    """
    if not context:
        given, answer = _after_prefix(reader, reader.encode_alone(continuation))
    else:
        bare = context.rstrip()
        given = reader.encode(bare)
        answer = reader.encode(context + continuation)[len(given) :]
    most = reader.most - (reader.prefix is not None)
    if not 1 <= len(answer) <= most:
        raise UserError(
            f"the continuation {continuation[:40]!r} after {context[-40:]!r} has {len(answer)} tokens of its own; "
            f"accepted: 1 to {most}"
        )
    room = reader.most - len(answer)
    return Scored(tuple(given[max(len(given) - room, 0) :]), tuple(answer))


def _after_prefix(reader: Reader, tokens: list[int]) -> tuple[list[int], list[int]]:
    """What the first token of a text without a context is given."""
    if reader.prefix is None:
        return [], tokens
    return (tokens[:1], tokens[1:]) if tokens[:1] == [reader.prefix] else ([reader.prefix], tokens)


def windows(reader: Reader, text: str) -> list[Scored]:
    """The tokens of a `loglikelihood_rolling` request: rows that together score each token once.

    The first row has no context but the prefix. The others are given one token, the last of them as many as it has room
    for.
    """
    tokens = reader.encode(text)
    given = () if reader.prefix is None else (reader.prefix,)
    end = min(reader.most - len(given), len(tokens))
    found = [Scored(given, tuple(tokens[:end]))] if tokens else []
    while end < len(tokens):
        count = min(len(tokens) - end, reader.most - 1)
        end += count
        row = tokens[end - reader.most : end]
        found.append(Scored(tuple(row[:-count]), tuple(row[-count:])))
    return found
