"""The tokenizer of rows of caption and image: ids of text, then those of image codes."""

import hashlib
import itertools
import json
import os
import re

import numpy as np
from jaxtyping import Int, Integer
from numpy.typing import ArrayLike

from mdlm_jax.data.tokenizer import TEXT_AND_CODES, Tokenizer, open_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home
from mdlm_jax.image_tokenizers import ImageTokenizer
from mdlm_jax.image_tokenizers.store import open_image_tokenizer

TEXT = "text"  # the folder of the tokenizer of captions
IMAGES = "images.safetensors"
CODE = re.compile(r"\s*#([0-9]+)(?![^\s#])\s*")
END = "<end>"  # how text writes the end of a caption


def text_and_codes(text: Tokenizer, images: ImageTokenizer, text_length: int) -> Tokenizer:
    """Text, in which #0, #1 .. are image codes and <end> is the separator, which fills up a caption.

    Args:
        text: The tokenizer of captions.
        images: The tokenizer of images.
        text_length: Positions of text in a row.

    Raises:
        UserError: The tokenizer of captions has no separator.
    """
    if text.separator < 0:
        raise UserError("the tokenizer of captions has no separator; accepted: bytes, or a tokenizer of text")

    def encode(content: str) -> Integer[np.ndarray, "n"]:
        found = [np.zeros(0, np.int32)]
        # pieces of text, and codes between them
        for number, piece in enumerate(CODE.split(content)):
            if number % 2:
                if int(piece[:9]) >= images.vocab_size or len(piece) > 9:
                    raise ValueError(f"#{piece[:9]}; accepted: #0 to #{images.vocab_size - 1}")
                found.append(np.array([text.vocab_size + int(piece)], np.int32))
                continue
            for first, part in enumerate(piece.split(END)):
                found += [np.array([text.separator], np.int32)] * (first > 0)
                found += [text.encode(part).astype(np.int32)] * bool(part)
        return np.concatenate(found)

    def decode(ids: ArrayLike) -> str:
        parts = []
        for is_code, group in itertools.groupby(np.asarray(ids).tolist(), lambda token: token >= text.vocab_size):
            group = list(group)
            parts.append(" ".join(f"#{token - text.vocab_size}" for token in group) if is_code else text.decode(group))
        return " ".join(filter(None, parts))

    described = json.dumps({TEXT_AND_CODES: {"text_length": text_length}}).encode()
    files = {TEXT_AND_CODES + ".json": described, IMAGES: images.content}
    files |= {f"{TEXT}/{name}": content for name, content in text.files.items()}
    identity = json.dumps([text_length, text.fingerprint, images.digest])
    return Tokenizer(
        pieces=lambda content: iter([content]),
        encode_batch=lambda contents: [encode(content) for content in contents],
        decode=decode,
        vocab_size=text.vocab_size + images.vocab_size,
        separator=-1,
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        files=files,
    )


def open_text_and_codes(folder: str | os.PathLike) -> tuple[Tokenizer, ImageTokenizer, int]:
    """The tokenizer of captions, that of images and the positions of text, from a folder of `save_tokenizer`.

    Raises:
        UserError: A file is missing or damaged.
    """
    folder = expand_home(folder)
    path = folder / f"{TEXT_AND_CODES}.json"
    try:
        length = json.loads(path.read_bytes())[TEXT_AND_CODES]["text_length"]
        if type(length) is not int or length < 1:
            raise ValueError(f"text_length is {length!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"tokenizer {path} is missing or damaged ({error!r})") from error
    return open_tokenizer(folder / TEXT), open_image_tokenizer(folder / IMAGES), length


def row_of_caption(
    ids: Integer[np.ndarray, "n"], text_length: int, separator: int
) -> Int[np.ndarray, "text_length"] | None:
    """The ids of a caption, then the separator until the row's text is full; None where it does not fit with one."""
    if len(ids) >= text_length:
        return None
    return np.concatenate([ids, np.full(text_length - len(ids), separator)]).astype(np.int32)
