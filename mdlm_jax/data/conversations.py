"""Conversations as tokens: rendered by a model's chat template, and which of the tokens are answers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Bool, Int

from mdlm_jax.data.chat_template import open_template, read_settings, special_token
from mdlm_jax.data.files import read_rows
from mdlm_jax.data.readers import as_text
from mdlm_jax.data.tokenizer import JSON_FILE, Tokenizer
from mdlm_jax.errors import UserError

ASSISTANT = "assistant"
Message = Mapping[str, str]


class Conversation(NamedTuple):
    """One conversation as tokens."""

    tokens: Int[np.ndarray, "n"]
    answered: Bool[np.ndarray, "n"]  # tokens of answers, each to its end-of-turn token
    bytes: int  # of the answers' text in UTF-8


class Chat(NamedTuple):
    """How a model writes conversations."""

    render: Callable[..., str]  # (messages, add_generation_prompt) -> text
    encode: Callable[[str], list[int]]  # rendered text, whose markup becomes control tokens
    control: Mapping[str, int]  # control tokens by their text
    end: int  # the token that ends a text


def open_chat(name: str, tokenizer: Tokenizer) -> Chat:
    """The chat template of a tokenizer's folder, with the tokens that it writes.

    Args:
        name: `data.tokenizer`, for errors.
        tokenizer: The same, opened.

    Raises:
        UserError: The folder has no chat template.
    """
    where = f"data.tokenizer={name!r}"
    if JSON_FILE not in tokenizer.files:
        raise UserError(f"{where}: has no chat template; accepted: the folder of a model for conversations")
    render = open_template(where, tokenizer.files)
    model = tokenizers.Tokenizer.from_str(tokenizer.files[JSON_FILE].decode())
    model.no_truncation()
    model.no_padding()
    added = model.get_added_tokens_decoder()
    control = {token.content: number for number, token in added.items() if token.special}
    end = model.token_to_id(special_token(read_settings(where, tokenizer.files), "eos") or "")
    end = tokenizer.separator if end is None else end
    return Chat(render, lambda text: model.encode(text, add_special_tokens=False).ids, control, end)


def read_conversations(key: str, patterns: str, answered: bool = True) -> Iterator[tuple[str, Sequence[Message]]]:
    """(file and line, messages) of each line of .jsonl files, and of each row of .parquet files.

    Args:
        key: The config key that holds `patterns`, for errors.
        patterns: Files, folders and globs, by commas.
        answered: Each has an answer of the assistant.

    Raises:
        UserError: A file is of another kind, or a line or row holds no conversation.
    """
    for where, row in read_rows(key, patterns):
        messages = check_messages(where, row.get("messages") if isinstance(row, dict) else None)
        roles = [message["role"] for message in messages]
        if answered and (ASSISTANT not in roles or roles[0] == ASSISTANT):
            raise UserError(
                f"{where}: roles {', '.join(roles)[:60]}; accepted: an answer of the assistant to a message"
            )
        yield where, messages


def check_messages(where: str, messages: Any) -> Sequence[Message]:
    """A list of messages with `role` and `content`; anything else is a UserError."""
    accepted = "accepted: an object with `messages`, a list of objects with `role` and `content`"
    if not isinstance(messages, list | tuple) or not messages:
        raise UserError(f"{where}: no messages; {accepted}")
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise UserError(f"{where}: a message is {json.dumps(message, default=str)[:60]}; {accepted}")
        as_text(where, message["content"])
    return messages


def encode_conversation(chat: Chat, where: str, messages: Sequence[Message]) -> Conversation | None:
    """The tokens of a conversation, as the model reads them while it answers.

    An answer begins where the prompt of its turn ends and includes the control token that ends it, but no markup behind
    that token.

    Args:
        chat: The model's.
        where: File and line, for errors.
        messages: With an answer of the assistant among them.

    Returns:
        None where the tokens of a turn's prompt do not begin those of the conversation, as with templates that
        rewrite earlier turns: the model would be trained on other prompts than it is given.

    Raises:
        UserError: A message spells a control token, which would become one.
    """
    _refuse_control(chat, where, messages)
    tokens = chat.encode(chat.render(messages, add_generation_prompt=False))
    answered, size = np.zeros(len(tokens), bool), 0
    control = set(chat.control.values())
    for number, message in enumerate(messages):
        if message["role"] != ASSISTANT:
            continue
        given = chat.encode(chat.render(messages[:number], add_generation_prompt=True))
        turn = chat.encode(chat.render(messages[: number + 1], add_generation_prompt=False))
        if tokens[: len(given)] != given or tokens[: len(turn)] != turn:
            return None
        ends = [at for at in range(len(given), len(turn)) if turn[at] in control]
        answered[len(given) : ends[-1] + 1 if ends else len(turn)] = True
        size += len(message["content"].encode())
    return Conversation(np.array(tokens, np.int32), answered, size)


def encode_question(chat: Chat, where: str, messages: Sequence[Message]) -> tuple[list[int], int]:
    """(tokens, the token that ends an answer) of a conversation that the model is to answer.

    Args:
        chat: The model's.
        where: File and line, for errors.
        messages: The last is not the assistant's.

    Raises:
        UserError: The last message is an answer, or one spells a control token.
    """
    if messages[-1]["role"] == ASSISTANT:
        raise UserError(f"{where}: the last message is the assistant's; accepted: a message to answer")
    _refuse_control(chat, where, messages)
    tokens = chat.encode(chat.render(messages, add_generation_prompt=True))
    answered = [*messages, {"role": ASSISTANT, "content": ""}]
    whole, control = chat.encode(chat.render(answered, add_generation_prompt=False)), set(chat.control.values())
    ends = [token for token in whole[len(tokens) :] if token in control]
    return tokens, ends[-1] if whole[: len(tokens)] == tokens and ends else chat.end


def _refuse_control(chat: Chat, where: str, messages: Sequence[Message]) -> None:
    """Refuses a message that spells a control token, which would become one."""
    for message in messages:
        for text in chat.control:
            if text in message["content"]:
                raise UserError(f"{where}: a message holds {text!r}, a control token; accepted: text without it")
