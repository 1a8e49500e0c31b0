"""Conversations as text, by the Jinja template of a model. It runs in a sandbox: a template is a stranger's code."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mdlm_jax.errors import UserError, one_line

TEMPLATE, SETTINGS = "chat_template.jinja", "tokenizer_config.json"
MARK = "\x02end of the message "  # its blank shows whether a template trims messages
SPECIALS = ("bos", "eos", "unk", "pad", "mask", "sep", "cls")


def open_template(where: str, files: Mapping[str, bytes]) -> Callable[..., str]:
    """The template of a model.

    Args:
        where: The model, for errors.
        files: The small files beside its weights, by name.

    Returns:
        (messages, add_generation_prompt=True) -> the rendered text. A message is a dictionary with `role` and
        `content`. With the generation prompt the text ends where an answer begins.

    Raises:
        UserError: There is no template, or it is none of Jinja.

    Reference: `apply_chat_template` of transformers 5.24.
    """
    settings = read_settings(where, files)
    template = files.get(TEMPLATE, b"").decode(errors="replace") or settings.get("chat_template")
    if not isinstance(template, str):
        raise UserError(f"{where}: has no chat template; accepted: a model for conversations")
    tokens = {f"{name}_token": special_token(settings, name) or "" for name in SPECIALS}

    def failed(error: Exception) -> UserError:
        return UserError(f"{where}: the chat template fails ({one_line(error)[:160]})")

    try:
        opened = _environment().from_string(template)
    except TemplateError as error:
        raise failed(error) from error

    def render(messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        try:
            return opened.render(messages=list(messages), add_generation_prompt=add_generation_prompt, **tokens)
        except Exception as error:  # a template may fail in any way
            raise failed(error) from error

    return render


def continued(where: str, render: Callable[..., str], messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation that ends inside its last message, which is to go on.

    Args:
        where: The model, for errors.
        render: Its template.
        messages: With `role` and `content`; the last one goes on.

    Raises:
        UserError: The template fails, or leaves out the last message.

    Reference: `continue_final_message` of transformers 5.24.
    """
    *others, last = messages
    text = render([*others, {**last, "content": last["content"] + MARK}], add_generation_prompt=False)
    before, mark, after = text.rpartition(MARK.strip())
    if not mark:
        raise UserError(f"{where}: the chat template leaves out the message that is to go on")
    return before if after.startswith(" ") else before.rstrip()


def template_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 of what the rendered text depends on."""
    return hashlib.sha256(repr([files.get(TEMPLATE), files.get(SETTINGS)]).encode()).hexdigest()


def read_settings(where: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """tokenizer_config.json; empty where there is none.

    Raises:
        UserError: It is no JSON object.
    """
    try:
        found = json.loads(files.get(SETTINGS, b"{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {SETTINGS} is not JSON ({one_line(error)[:160]})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: {SETTINGS} is not a JSON object")
    return found


def special_token(settings: Mapping[str, Any], name: str) -> str | None:
    """A special token of tokenizer_config.json, which may be a dictionary with its content."""
    value = settings.get(f"{name}_token")
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return environment


def _raise(message: str) -> None:
    raise TemplateError(message)
