"""Rows of caption and image from the folder that `mdlm-jax data build --images` wrote."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, UInt8

from mdlm_jax.data.corpus import open_streams, read_manifest, rows_of_streams
from mdlm_jax.data.rows import Splits
from mdlm_jax.data.text_and_codes import open_text_and_codes, row_of_caption, text_and_codes
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home
from mdlm_jax.image_tokenizers import ImageTokenizer

TOKENIZER = "tokenizer"  # the folder of its files, in that of a corpus and of a run


class ImageLayout(NamedTuple):
    """Where a row has its text and its image, and how its codes are an image. Ids below `text_vocab` are text."""

    text: Tokenizer  # of captions
    images: ImageTokenizer
    text_length: int  # positions of text; they come first

    @property
    def text_vocab(self) -> int:
        """V_t: the first image id."""
        return self.text.vocab_size

    @property
    def image_vocab(self) -> int:
        """V_i, the number of image codes."""
        return self.images.vocab_size

    @property
    def vocab_size(self) -> int:
        """V = V_t + V_i, the mask not counted."""
        return self.text_vocab + self.image_vocab

    @property
    def length(self) -> int:
        """L, the positions of a row."""
        return self.text_length + self.images.length

    @property
    def height(self) -> int:
        """Of the image, pixels."""
        return self.images.shape[0]

    @property
    def width(self) -> int:
        """Of the image, pixels."""
        return self.images.shape[1]

    @property
    def columns(self) -> int:
        """Tokens of a row of the image."""
        return self.width // self.images.described["patch"]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (colour)."""
        return self.images.shape[2]

    @property
    def levels(self) -> int:
        """Values of a channel of a decoded image."""
        return 256

    @property
    def why_no_bits(self) -> str | None:
        """Why the likelihood of the codes is not that of the image; None where it is."""
        kind = self.images.described["kind"]
        return None if self.images.lossless else f"{kind} loses part of an image: nats of codes are none of its pixels"

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of whole rows."""
        return text_and_codes(self.text, self.images, self.text_length)

    def prompt_of(self, ids: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
        """The text before the first code is filled up as in the corpus, so that the image begins where it belongs.

        Raises:
            UserError: The text leaves no room for an end, or follows a code.
        """
        if not len(ids):
            return ids
        is_code = ids >= self.text_vocab
        size = int(np.argmax(is_code)) if is_code.any() else len(ids)
        if not is_code[size:].all():
            raise UserError("a prompt has text behind an image code; accepted: text, then codes")
        words = np.flatnonzero(ids[:size] != self.text.separator)
        text = ids[: words[-1] + 1 if len(words) else 0]  # a prompt may write some of its ends
        row = row_of_caption(text, self.text_length, self.text.separator)
        if row is None:
            raise UserError(f"a prompt has {len(text)} tokens of text; accepted: at most {self.text_length - 1}")
        return np.concatenate([row, ids[size:]])


def built_layout(path: str) -> ImageLayout:
    """The layout of the corpus, or of the run, in a folder.

    Raises:
        UserError: The folder has no tokenizer of images.
    """
    folder = expand_home(path) / TOKENIZER
    if not folder.is_dir():
        raise UserError(f"data.path={path!r}: no images; accepted: a folder of `mdlm-jax data build --images`")
    return ImageLayout(*open_text_and_codes(folder))


def open_images(path: str, length: int) -> Splits:
    """Rows of a corpus of images.

    Args:
        path: `data.path`, the folder.
        length: Tokens of a row, which must be those of the corpus.

    Raises:
        UserError: The folder is no finished corpus of images, is damaged, or has rows of another length.
    """
    manifest, layout = read_manifest(path), built_layout(path)
    tokenizer = layout.tokenizer()
    if tokenizer.fingerprint != manifest["tokenizer"]["fingerprint"]:
        raise UserError(f"{path}: its tokenizer is another than that of its manifest; build the corpus again")
    if length != layout.length:
        raise UserError(
            f"data.sequence_length={length}; accepted: {layout.length}, the {layout.text_length} positions of text and "
            f"{layout.images.length} of the image in {path}"
        )
    train, validation = rows_of_streams(path, manifest, open_streams(path, manifest), length)
    return Splits(train, validation, bytes_per_token=1.0, tokenizer=tokenizer)


def pixels_of_rows(
    layout: ImageLayout, tokens: Integer[np.ndarray, "n L"]
) -> UInt8[np.ndarray, "n height width channels"]:
    """The image of each row. Raises UserError where a position of the image holds no image token."""
    codes = np.asarray(tokens, np.int64)[:, layout.text_length :] - layout.text_vocab
    if codes.size and codes.min() < 0:
        raise UserError("tokens: a position of the image holds text; accepted: rows with a whole image")
    return layout.images.decode(codes)
