"""Rows of conversations for fine-tuning: only answers are scored, all else is a prompt."""

import bisect
import sys
from collections.abc import Sequence

import numpy as np

from mdlm_jax.data import Example
from mdlm_jax.data.conversations import Chat, Conversation, encode_conversation, open_chat, read_conversations
from mdlm_jax.data.rows import Rows, Splits
from mdlm_jax.data.sources import HELD_OUT
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError

PADDINGS = ("packed", "unread", "scored")


def open_chats(path: str, validation_path: str, tokenizer: str, padding: str, length: int) -> Splits:
    """Rows of conversations in .jsonl and .parquet files, one object with `messages` a line or row.

    A conversation that is longer than a row is left out, and so is one whose earlier turns the template rewrites; both
    are counted on standard error.

    Args:
        path: `data.path`.
        validation_path: `data.validation_path`; empty holds out the last 5% of the conversations, at least one.
        tokenizer: `data.tokenizer`, a folder with a chat template.
        padding: `data.padding`, as in `rows_of_chats`.
        length: Tokens of a row.

    Raises:
        UserError: A file cannot be read, or no conversation is left in a split.
    """
    opened = open_tokenizer(tokenizer)
    chat = open_chat(tokenizer, opened)
    train = _fitting(chat, "data.path", path, length)
    if validation_path:
        validation = _fitting(chat, "data.validation_path", validation_path, length)
    else:
        kept = len(train) - max(int(HELD_OUT * len(train)), 1)
        train, validation = train[:kept], train[kept:]
    if not train:
        raise UserError(f"data.path={path!r}: one conversation, which is held out; accepted: several")
    held_out = rows_of_chats(validation, length, padding, chat.end)
    scored = (held_out.segments > 0) & ~held_out.prompt_mask
    size = sum(conversation.bytes for conversation in validation)
    return Splits(
        train=_rows(rows_of_chats(train, length, padding, chat.end)),
        validation=_rows(held_out),
        bytes_per_token=max(size, 1) / int(scored.sum()),
        tokenizer=opened,
    )


def rows_of_chats(conversations: Sequence[Conversation], length: int, padding: str, end: int) -> Example:
    """Conversations as rows.

    Args:
        conversations: None longer than a row.
        length: Tokens of a row.
        padding: One of PADDINGS. packed: several conversations in a row, each a segment of its own. unread: one in a
            row, then padding. scored: one in a row, then the end of the text again and again, which is read, noised and
            scored, so that a model of whole rows learns where its answer ends (LLaDA, arXiv 2502.09992).
        end: The token that ends a text.

    Returns:
        An Example whose fields have a leading axis of rows.
    """
    if padding not in PADDINGS:
        raise UserError(f"padding={padding!r} (data.padding); accepted: {', '.join(PADDINGS)}")
    sizes = [len(conversation.tokens) for conversation in conversations]
    placed = _packed(sizes, length) if padding == "packed" else [(row, 0, 1) for row in range(len(sizes))]
    count = 1 + max(row for row, _, _ in placed)
    scored = padding == "scored"
    tokens = np.full((count, length), end if scored else 0, np.int32)
    segments, prompt = np.full((count, length), int(scored), np.int32), np.zeros((count, length), bool)
    for (row, first, segment), conversation in zip(placed, conversations, strict=True):
        span = row, slice(first, first + len(conversation.tokens))
        tokens[span], segments[span], prompt[span] = conversation.tokens, segment, ~conversation.answered
    return Example(tokens, segments, prompt)


def _packed(sizes: Sequence[int], length: int) -> list[tuple[int, int, int]]:
    """(row, first position, segment) of each conversation: the longest first, each into the fullest row with room."""
    placed = [(0, 0, 0)] * len(sizes)
    filled: list[tuple[int, int]] = []  # segments of each row, and tokens
    rooms: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        at = bisect.bisect_left(rooms, (sizes[number], 0))
        if at < len(rooms):
            _, row = rooms.pop(at)
        else:
            row = len(filled)
            filled.append((0, 0))
        segments, used = filled[row]
        placed[number] = row, used, segments + 1
        filled[row] = segments + 1, used + sizes[number]
        bisect.insort(rooms, (length - used - sizes[number], row))
    return placed


def _fitting(chat: Chat, key: str, path: str, length: int) -> list[Conversation]:
    """The conversations of the files that fit into a row; the others are counted on standard error."""
    found, long, rewritten = [], 0, 0
    for where, messages in read_conversations(key, path):
        conversation = encode_conversation(chat, where, messages)
        if conversation is None:
            rewritten += 1
        elif len(conversation.tokens) > length:
            long += 1
        else:
            found.append(conversation)
    left_out = [f"{long:,} of more than {length} tokens"] * (long > 0)
    left_out += [f"{rewritten:,} whose earlier turns the chat template rewrites"] * (rewritten > 0)
    if not found:
        raise UserError(
            f"{key}={path!r}: no conversation to train on ({' and '.join(left_out) or 'the files are empty'})"
        )
    if left_out:
        print(f"mdlm-jax: {key}={path!r}: conversations left out: {', '.join(left_out)}", file=sys.stderr, flush=True)
    return found


def _rows(whole: Example) -> Rows:
    return Rows(len(whole.tokens), lambda numbers: Example(*(field[numbers] for field in whole)))
