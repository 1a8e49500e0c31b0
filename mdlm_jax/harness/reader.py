"""Text to tokens as the harness's own models read it, and how many tokens a row may have."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tokenizers

from mdlm_jax.data.conversations import open_chat
from mdlm_jax.data.tokenizer import JSON_FILE, encode_given
from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import Run
from mdlm_jax.weights.source import holds_weights, open_source
from mdlm_jax.weights.text import open_text


class Reader(NamedTuple):
    """How a network reads and writes text."""

    encode: Callable[[str], list[int]]  # with the tokens that the tokenizer puts around a text, such as <s>
    encode_alone: Callable[[str], list[int]]  # without them
    prefix: int | None  # read before a text that has no prompt; None where the network has a start symbol
    most: int  # tokens of a row
    decode: Callable[[list[int]], str]
    end: int | None  # the token that ends a text; None where there is none


def reader_of(folder: pathlib.Path, run: Run, length: int | None = None, chat: bool = False) -> Reader:
    """How a run or a public model reads the requests of the harness.

    Args:
        folder: Of the run or the public model.
        run: The same, opened.
        length: Tokens that the network reads at once. Default: those of a row in training, or of the model's context.
        chat: Whether markup in requests is that of the chat template: a run reads it as control tokens, not as text.

    Raises:
        UserError: The network has no rows of this length.
    """
    config, context = run.config, run.config.data.sequence_length
    if length is not None and not 2 <= length <= context:
        raise UserError(f"--length={length}; accepted: 2 to {context}, the tokens of a row in training")
    if length is not None and config.objective.block_size:
        raise UserError(f"--length={length}: a network in blocks reads whole rows; accepted: no --length")
    length = length or context
    if not holds_weights(folder) and chat:
        opened = open_chat(str(folder), run.tokenizer)
        return Reader(opened.encode, opened.encode, None, length, run.tokenizer.decode, opened.end)
    if not holds_weights(folder):

        def encode(text: str) -> list[int]:
            return encode_given("a request", text, run.tokenizer).tolist()

        end = run.tokenizer.separator
        return Reader(encode, encode, None, length, run.tokenizer.decode, end if end >= 0 else None)
    model = tokenizers.Tokenizer.from_str(run.tokenizer.files[JSON_FILE].decode())
    model.no_truncation()
    model.no_padding()
    specials = open_text(open_source(folder)).specials
    end = specials.get("eos", run.tokenizer.separator)
    first = specials.get("bos", end)

    def encode_whole(text: str) -> list[int]:
        starts = "bos" in specials and text.startswith(model.id_to_token(specials["bos"]))
        return model.encode(text, add_special_tokens=not starts).ids

    def encode_alone(text: str) -> list[int]:
        return model.encode(text, add_special_tokens=False).ids

    # of `ar` the last token of a row is predicted and not read
    causal = config.objective.name == "ar"
    prefix = first if causal or run.shift else None
    return Reader(encode_whole, encode_alone, prefix, length + causal, model.decode, end)


def shapes(reader: Reader, run: Run, tokens: int) -> int:
    """Tokens of the padded row for a request of this many tokens: a power of two, so that few programs compile."""
    if run.config.objective.block_size:
        return reader.most
    extra = int(reader.most > run.config.data.sequence_length)  # the last token, which is not read
    return min(max(32, int(2 ** np.ceil(np.log2(max(tokens - extra, 1))))) + extra, reader.most)
