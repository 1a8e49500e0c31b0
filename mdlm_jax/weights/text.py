"""The tokenizer of a public model: text, control tokens and chat templates."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Integer
from numpy.typing import ArrayLike

from mdlm_jax.data.chat_template import SPECIALS, open_template, read_settings, special_token
from mdlm_jax.data.tokenizer import NOT_READ, not_read
from mdlm_jax.errors import UserError
from mdlm_jax.weights.source import Source
from mdlm_jax.weights.tensors import shown


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
    config = read_settings(str(source.path), source.files)
    ids = {name: model.token_to_id(token) for name in SPECIALS if (token := special_token(config, name)) is not None}
    specials = {name: token for name, token in ids.items() if token is not None}

    def encode(text: str, control: bool = False) -> np.ndarray:
        model.encode_special_tokens = not control
        return np.array(model.encode(text, add_special_tokens=False).ids, np.int32)

    def chat(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        return open_template(str(source.path), source.files)(messages, add_generation_prompt)

    return Text(encode, lambda ids: model.decode(np.asarray(ids).tolist(), skip_special_tokens=False), chat, specials)


def _opened(where: str, content: bytes) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(content.decode())
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the library raises a bare Exception, or panics
        raise UserError(f"{where} cannot be read ({shown(str(error), 160)})") from error
