"""What a user requests of a run, as samplers take it. All of it is checked before anything is drawn."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from mdlm_jax.data.conversations import Message, check_messages, encode_question, open_chat
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import Run
from mdlm_jax.sampling.base import Request, Sampler, Trained
from mdlm_jax.sampling.checks import check
from mdlm_jax.sampling.prompts import encode_prompt, token_ids
from mdlm_jax.sampling.run_sampler import length_of, sampler_of, trained_of
from mdlm_jax.sampling.text import errors_of

Prompt = str | Sequence[Message]  # a text to continue, or a conversation to answer


class RunRequest(NamedTuple):
    """The arguments of `sample` for each of several prompts, and where the texts end."""

    name: str  # of the sampler
    sampler: Sampler
    trained: Trained
    prompts: tuple[Int[np.ndarray, "count P"], ...]
    lengths: tuple[int, ...]  # tokens of the samples of each prompt
    stop: int | str | None  # the token or the text that ends a text; None: nothing does


def request_of(
    run: Run,
    prompts: Sequence[Prompt],
    *,
    sampler: str | None = None,
    fields: Mapping[str, Any] | None = None,
    count: int = 1,
    length: int | None = None,
    new_tokens: int | None = None,
    mask_token: str = "",
    tokens: Mapping[str, str] | None = None,
) -> RunRequest:
    """Reads and checks a request.

    Args:
        run: The run.
        prompts: Beginnings of the texts, or conversations: lists of messages with `role` and `content`, which the
            template of the run's tokenizer renders. An answer ends where the template ends one, unless a stop is given.
        sampler: A sampler as text, as `sampler_of` reads it. Default: the usual one of the run.
        fields: More of its fields.
        count: Samples per prompt.
        length: Tokens per sample, the prompt's included. Default: those of a row in training, or those of the prompt
            where it has masks.
        new_tokens: Tokens after the prompt, instead of `length`.
        mask_token: Text that stands for a mask in the prompts, as in `encode_prompt`. Without a length each prompt has
            one.
        tokens: The fields stop, suppress and delay as text, as `token_ids` reads them. A stop of several tokens cuts
            the text after it is drawn.

    Raises:
        UserError: A prompt, a length or the sampler does not fit the run.
    """
    trained, mask_id = trained_of(run), run.vocab_size
    named, stop = _token_fields(tokens or {}, run.tokenizer)
    encoded, end = _encoded(run, prompts, mask_token)
    name, chosen = sampler_of(run, sampler, dict(fields or {}) | named)
    stop = getattr(chosen, "stop", None) if stop is None else stop
    if stop is None and end is not None:  # many samplers have no stop of their own: the text is cut there
        if hasattr(chosen, "stop"):
            name, chosen = sampler_of(run, sampler, dict(fields or {}) | named | {"stop": end})
        stop = end
    if count < 1:
        raise UserError(f"{count} samples: accepted is 1 or more")
    if run.layout is not None and not mask_token:
        encoded = [run.layout.prompt_of(ids) for ids in encoded]
    for prompt, ids in zip(prompts, encoded, strict=True):
        if mask_token and length is None and new_tokens is None and mask_id not in ids:
            accepted = "a text with masks to fill, or a length"
            raise UserError(f"prompt {shorten(str(prompt), 60)!r} has no {mask_token}; accepted: {accepted}")
    given = tuple(np.tile(ids, (count, 1)) for ids in encoded)
    lengths = tuple(_length(run, rows, length, new_tokens) for rows in given)
    for rows, total in zip(given, lengths, strict=True):
        with errors_of(name):
            check(chosen, Request(rows, total, mask_id, trained))
    return RunRequest(name, chosen, trained, given, lengths, stop)


def _encoded(run: Run, prompts: Sequence[Prompt], mask_token: str) -> tuple[list[np.ndarray], int | None]:
    """The tokens of each prompt, and the token that ends an answer; None where no prompt is a conversation."""
    encoded, end, chat = [], None, None
    for number, prompt in enumerate(prompts, start=1):
        if isinstance(prompt, str):
            encoded.append(encode_prompt(prompt, run.tokenizer, run.vocab_size, mask_token))
        else:
            where = f"prompt {number}"
            chat = chat or open_chat(run.config.data.tokenizer, run.tokenizer)
            tokens, end = encode_question(chat, where, check_messages(where, prompt))
            encoded.append(np.asarray(tokens, np.int32))
    return encoded, end


def _length(run: Run, prompt: np.ndarray, length: int | None, new_tokens: int | None) -> int:
    """Tokens of the samples of one prompt."""
    if new_tokens is not None:
        if length is not None:
            raise UserError(f"length {length} and {new_tokens} new tokens; accepted: one of the two")
        if new_tokens < 1:
            raise UserError(f"{new_tokens} new tokens: accepted is 1 or more")
        return length_of(run, prompt.shape[1] + new_tokens)
    if length is None and (prompt == run.vocab_size).any():
        return length_of(run, prompt.shape[1])
    return length_of(run, length)


def _token_fields(tokens: Mapping[str, str], tokenizer: Tokenizer) -> tuple[dict[str, Any], int | str | None]:
    """(fields of the sampler, what ends a text after it is drawn: None for the sampler's own stop)."""
    ids = {name: token_ids(text, tokenizer) for name, text in tokens.items()}
    stop = ids.pop("stop", None)
    if stop is None:
        return dict(ids), None
    if not stop:
        raise UserError("stop is an empty text; accepted: a token's id, or a text")
    if len(stop) == 1:
        return ids | {"stop": stop[0]}, None
    return dict(ids), tokens["stop"]
