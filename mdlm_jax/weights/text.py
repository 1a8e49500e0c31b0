"""The tokenizer of a public model: text, control tokens and chat templates."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Integer
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import ArrayLike

from mdlm_jax.data.tokenizer import NOT_READ, not_read
from mdlm_jax.errors import UserError
from mdlm_jax.weights.source import Source
from mdlm_jax.weights.tensors import shown

SPECIALS = ("bos", "eos", "unk", "pad", "mask", "sep", "cls")


class Text(NamedTuple):
    """`encode(text, control=False)` reads markup in a text as text; with control=True it becomes control tokens."""

    encode: Callable[..., Integer[np.ndarray, "n"]]
    decode: Callable[[ArrayLike], str]
    chat: Callable[..., str]  # (messages, add_generation_prompt=True) -> the rendered text
    specials: dict[str, int]  # ids of bos, eos, pad, ... where the model has them


def open_text(source: Source) -> Text:
    """The tokenizer of an opened checkpoint.

    Raises:
        UserError: The checkpoint has no tokenizer, or it cannot be read.
    """
    content = source.files.get("tokenizer.json")
    where = f"{source.path}: tokenizer.json"
    if content is None:
        for file in not_read(source.path if source.path.is_dir() else source.path.parent):
            raise UserError(f"{file}: {NOT_READ}")
        raise UserError(f"{where} is missing; accepted: a tokenizers JSON file beside the weights")
    model = _opened(where, content)
    model.no_truncation()
    model.no_padding()
    config = _json(f"{source.path}: tokenizer_config.json", source.files.get("tokenizer_config.json", b"{}"))
    ids = {name: model.token_to_id(token) for name in SPECIALS if (token := _token(config, name)) is not None}
    specials = {name: token for name, token in ids.items() if token is not None}

    def encode(text: str, control: bool = False) -> np.ndarray:
        model.encode_special_tokens = not control
        return np.array(model.encode(text, add_special_tokens=False).ids, np.int32)

    def chat(messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        template = source.files.get("chat_template.jinja", b"").decode() or config.get("chat_template")
        if not isinstance(template, str):
            raise UserError(f"{source.path}: has no chat template; accepted: a model for conversations")
        tokens = {f"{name}_token": _token(config, name) or "" for name in SPECIALS}
        try:
            return (
                _environment()
                .from_string(template)
                .render(messages=list(messages), add_generation_prompt=add_generation_prompt, **tokens)
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(f"{source.path}: the chat template fails ({shown(str(error), 160)})") from error

    return Text(encode, lambda ids: model.decode(np.asarray(ids).tolist(), skip_special_tokens=False), chat, specials)


def _opened(where: str, content: bytes) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(content.decode())
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the library raises a bare Exception, or panics
        raise UserError(f"{where} cannot be read ({shown(str(error), 160)})") from error


def _json(where: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({shown(str(error), 160)})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where} is not a JSON object")
    return found


def _token(config: dict[str, Any], name: str) -> str | None:
    """A special token of tokenizer_config.json, which may be a dictionary with its content."""
    value = config.get(f"{name}_token")
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up, in a sandbox: a template is a stranger's code."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return environment


def _raise(message: str) -> None:
    raise TemplateError(message)
