"""Text a user gives to a sampler: prompts with masks to fill, and tokens named by id or by text."""

import re

import numpy as np
from jaxtyping import Int

from mdlm_jax.data.tokenizer import Tokenizer, encode_given
from mdlm_jax.errors import UserError

MASK_TOKEN = "<mask>"
MOST_MASKS = 100_000  # in one mask of several tokens: more is a slip of the finger


def encode_prompt(
    prompt: str, tokenizer: Tokenizer, mask_id: int | None = None, mask_token: str = ""
) -> Int[np.ndarray, "P"]:
    """Token ids of a prompt.

    Args:
        prompt: The text.
        tokenizer: The run's tokenizer.
        mask_id: The id of the mask, V.
        mask_token: Text that stands for a mask, such as <mask>; <mask:5> is five masks. Empty: no text does.

    Raises:
        UserError: The tokenizer cannot read the text (the states of a synthetic source).
    """
    if not mask_token:
        return _encode(prompt, tokenizer)
    ids, end = [np.zeros(0, np.int32)], 0
    for found in re.finditer(_pattern(mask_token), prompt):
        count = int(found[1] or 1)
        if not 1 <= count <= MOST_MASKS:
            raise UserError(f"prompt {prompt!r}: {found[0]} has {count} masks; accepted: 1 to {MOST_MASKS:,}")
        ids += [_encode(prompt[end : found.start()], tokenizer), np.full(count, mask_id, np.int32)]
        end = found.end()
    return np.concatenate([*ids, _encode(prompt[end:], tokenizer)])


def _pattern(mask_token: str) -> str:
    """The mask token, with a count before its last character: <mask>, <mask:5>."""
    return f"{re.escape(mask_token[:-1])}(?::([0-9]+))?{re.escape(mask_token[-1])}"


def _encode(text: str, tokenizer: Tokenizer) -> Int[np.ndarray, "n"]:
    return encode_given(f"prompt {text!r}", text, tokenizer)


def token_ids(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of 3+7, or the tokens of a text."""
    if re.fullmatch(r"[0-9]+(\+[0-9]+)*", text):
        return tuple(map(int, text.split("+")))
    return tuple(int(token) for token in _encode(text, tokenizer))


def end_of_text(tokens: Int[np.ndarray, "L"], step: Int[np.ndarray, "L"], stop: int | str, tokenizer: Tokenizer) -> int:
    """How many tokens of a row there are before the end of its text: all of them where it does not end.

    Args:
        tokens: The row.
        step: The step of each token; -1 was given.
        stop: The token that ends a text, or a text that does.
        tokenizer: The run's tokenizer.
    """
    drawn = np.flatnonzero(step >= 0)
    first = int(drawn[0]) if drawn.size else len(tokens)
    if isinstance(stop, int):
        ends = np.flatnonzero((tokens == stop) & (step >= 0))
        return int(ends[0]) if ends.size else len(tokens)
    given = len(tokenizer.decode(tokens[:first]))
    if stop not in tokenizer.decode(tokens)[given:]:
        return len(tokens)
    # the first length whose text holds the stop text, without the stop text itself
    whole = next(n for n in range(first, len(tokens) + 1) if stop in tokenizer.decode(tokens[:n])[given:])
    before = tokenizer.decode(tokens[:whole])[given:].index(stop)
    return max(n for n in range(first, whole) if len(tokenizer.decode(tokens[:n])[given:]) <= before)
