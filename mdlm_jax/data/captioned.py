"""Rows of text and image in one vocabulary: the ids of words, then those of image codes; the mask comes after both."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from mdlm_jax.data import digits, shapes
from mdlm_jax.data.addressed import uniform
from mdlm_jax.data.built_images import ImageLayout, built_layout, open_images, pixels_of_rows
from mdlm_jax.data.rows import Rows, Splits
from mdlm_jax.data.shapes import captioned_shapes, entropies
from mdlm_jax.data.tokenizer import Tokenizer, words_and_codes_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.image_tokenizers.lossless import check_patches, to_codes, to_images

ROWS = 2**40  # more than any run reads
CAPTIONED = ("shapes", "digits", "uniform", "images")  # the sources of such rows
SIZES = ("words", "text", "codes", "side")  # of `uniform`


class Layout(NamedTuple):
    """Where a row has its text and its image. Ids below `text_vocab` are text."""

    words: tuple[str, ...]
    text_length: int  # positions of text; they come first
    height: int  # of the image, pixels
    width: int
    patch: int  # side of the patch that one token stands for, pixels
    levels: int  # values of a pixel

    @property
    def channels(self) -> int:
        """Numbers of a pixel: its level."""
        return 1

    @property
    def text_vocab(self) -> int:
        """V_t, the number of words: the first image id."""
        return len(self.words)

    @property
    def image_vocab(self) -> int:
        """V_i, the number of codes of a patch."""
        return self.levels ** (self.patch * self.patch)

    @property
    def vocab_size(self) -> int:
        """V = V_t + V_i, the mask not counted."""
        return self.text_vocab + self.image_vocab

    @property
    def length(self) -> int:
        """L, the positions of a row."""
        return self.text_length + (self.height // self.patch) * (self.width // self.patch)

    @property
    def columns(self) -> int:
        """Tokens of a row of the image."""
        return self.width // self.patch

    @property
    def why_no_bits(self) -> str | None:
        """Why the likelihood of the codes is not that of the image: None, for it is."""
        return None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of whole rows."""
        return words_and_codes_tokenizer(list(self.words), self.image_vocab)

    def prompt_of(self, ids: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """A prompt as it is: every caption has as many words as there are positions."""
        return ids


def layout_of(source: str, path: str) -> Layout | ImageLayout:
    """The layout of a source's rows.

    Args:
        source: `data.source`, one of CAPTIONED.
        path: `data.path`: 'patch=2', the side of a patch; of digits also 'patch=2,levels=4', which rounds pixels to
            fewer levels than their 17. Of uniform 'words=32000,text=128,codes=8192,side=16': V_t, positions of text,
            V_i, and the side of the image in tokens. Of images the folder of a corpus or of a run.

    Raises:
        UserError: The source has no images, or the path is not understood.
    """
    if source not in CAPTIONED:
        raise UserError(f"data.source={source!r} has no images; accepted: {', '.join(CAPTIONED)}")
    return built_layout(path) if source == "images" else _world_layout(source, path)


def _world_layout(source: str, path: str) -> Layout:
    of_digits = source == "digits"
    items = [item.partition("=") for item in path.replace(" ", "").split(",")]
    found = {name: int(value) for name, _, value in items if value.isdecimal() and len(value) < 6}
    if source == "uniform":
        if len(found) < len(items) or found.keys() != set(SIZES) or not all(found.values()):
            accepted = "words=32000,text=128,codes=8192,side=16, whole numbers from 1 to 99999"
            raise UserError(f"data.path={path!r}; accepted: {accepted}")
        words = tuple(f"word{number}" for number in range(found["words"]))
        return Layout(words, found["text"], found["side"], found["side"], 1, found["codes"])
    if len(found) < len(items) or "patch" not in found or found.keys() - {"patch", *(["levels"] if of_digits else [])}:
        more = "; also levels=2 to 17, as in patch=2,levels=4" if of_digits else ""
        raise UserError(f"data.path={path!r}; accepted: patch=1 or patch=2, the side of a patch in pixels{more}")
    side, most = (digits.SIDE, digits.LEVELS) if of_digits else (shapes.SIDE, shapes.LEVELS)
    levels = found.get("levels", most)
    if levels > most:
        raise UserError(f"data.path={path!r}: levels={levels}; accepted: 2 to {most}")
    try:
        check_patches(side, side, found["patch"], levels)
    except UserError as error:
        raise UserError(f"data.path={path!r}: {error}") from error
    words, text_length = (digits.WORDS, digits.TEXT_LENGTH) if of_digits else (shapes.WORDS, 4)
    return Layout(words, text_length, side, side, found["patch"], levels)


def open_captioned(source: str, path: str, length: int) -> Splits:
    """Rows of a caption and its image: a function of the split and the number of the row.

    Rows of shapes are drawn independently. Those of digits go through the images of their split again and again, with
    captions drawn independently; each held-out image is there once.

    Args:
        source: As in `layout_of`.
        path: As in `layout_of`.
        length: Tokens of a row, which must be those of the layout.

    Raises:
        UserError: The path is not understood, the length is another, or the images are not installed.
    """
    if source == "images":
        return open_images(path, length)
    layout = _world_layout(source, path)
    if length != layout.length:
        raise UserError(
            f"data.sequence_length={length}; accepted: {layout.length}, the {layout.text_length} words and "
            f"{layout.length - layout.text_length} image tokens of data.source={source!r} with data.path={path!r}"
        )
    rows = {"shapes": rows_of_shapes, "digits": rows_of_digits, "uniform": rows_of_uniform}
    train, validation = rows[source](layout)
    return Splits(train, validation, bytes_per_token=1.0, tokenizer=layout.tokenizer())


def rows_of_shapes(layout: Layout) -> tuple[Rows, Rows]:
    """Training and held-out rows."""
    pictures = captioned_shapes()
    edges = np.cumsum(pictures.joint.ravel())[:-1]
    codes = to_codes(pictures.images, layout.patch, layout.levels)

    def rows(split: int) -> Rows:
        def read(numbers: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n length"]:
            drawn = np.searchsorted(edges, uniform(split, numbers), side="right")
            image, caption = np.divmod(drawn, pictures.joint.shape[1])
            return row_of(layout, pictures.captions[caption], codes[image])

        return Rows(ROWS, read)

    return rows(0), rows(1)


def rows_of_digits(layout: Layout) -> tuple[Rows, Rows]:
    """Training and held-out rows."""
    images, labels, held_out, _ = digits.load_digits(layout.levels)
    styles = digits.styles_of(images, layout.levels)
    codes = to_codes(images, layout.patch, layout.levels)

    def rows(split: int, which: Int[np.ndarray, "m"], count: int) -> Rows:
        def read(numbers: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n length"]:
            chosen, chances = which[numbers % len(which)], uniform(split, numbers, np.array([[0], [1]]))
            return row_of(layout, digits.captions_of(styles[chosen], labels[chosen], chances), codes[chosen])

        return Rows(count, read)

    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return rows(0, train, ROWS), rows(1, validation, len(validation))


def rows_of_uniform(layout: Layout) -> tuple[Rows, Rows]:
    """Training and held-out rows of independent tokens, all ids of a modality equally likely: of any size, to measure
    steps and to compile for devices before there is data."""
    first = np.where(np.arange(layout.length) < layout.text_length, 0, layout.text_vocab)
    ids = np.where(first == 0, layout.text_vocab, layout.image_vocab)

    def rows(split: int) -> Rows:
        def read(numbers: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n length"]:
            drawn = uniform(split, numbers[:, None], np.arange(layout.length))
            return (first + drawn * ids).astype(np.int32)

        return Rows(ROWS, read)

    return rows(0), rows(1)


def known_entropies(source: str, layout: Layout | ImageLayout) -> dict[str, float]:
    """Entropies in nats a row: all tasks of shapes and uniform; of digits, captions given images; of images, none.

    Args:
        source: `data.source`, one of CAPTIONED.
        layout: Of its rows.
    """
    if source == "images":
        return {}
    if source == "digits":
        return {"text_given_image": digits.undecided_nats()}
    if source == "uniform":
        text = layout.text_length * float(np.log(layout.text_vocab))
        image = (layout.length - layout.text_length) * float(np.log(layout.image_vocab))
        return shapes.Entropies(text + image, text, image, text, image)._asdict()
    return entropies(captioned_shapes().joint)._asdict()


def row_of(
    layout: Layout, text: Int[np.ndarray, "n words"], codes: Int[np.ndarray, "n codes"]
) -> Int[np.ndarray, "n length"]:
    """Rows of text, then image: the ids of the codes are shifted by V_t."""
    return np.concatenate([text, layout.text_vocab + codes], axis=1).astype(np.int32)


def images_of(
    layout: Layout | ImageLayout, tokens: Integer[np.ndarray, "n length"]
) -> Integer[np.ndarray, "n height width *channels"]:
    """The image of each row: levels of pixels, or of a built corpus 8 bits a channel.

    Raises:
        UserError: A position of the image holds no image token.
    """
    if isinstance(layout, ImageLayout):
        return pixels_of_rows(layout, tokens)
    codes = np.asarray(tokens)[:, layout.text_length :] - layout.text_vocab
    return to_images(codes, layout.height, layout.width, layout.patch, layout.levels)
