"""Requests of the harness as tokens: what is given, and what is scored."""

from typing import NamedTuple

from mdlm_jax.errors import UserError
from mdlm_jax.harness.reader import Reader


class Scored(NamedTuple):
    """An answer after what is given, which together fit in a row."""

    given: tuple[int, ...]
    answer: tuple[int, ...]


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
