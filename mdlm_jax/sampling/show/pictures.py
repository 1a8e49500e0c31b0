"""Drawn rows of text and image: the picture under its caption, as blocks of text and as PNG."""

import io
import math
import pathlib
import textwrap
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int, Integer
from matplotlib.figure import Figure
from rich.text import Text

from mdlm_jax.data.built_images import ImageLayout
from mdlm_jax.data.captioned import Layout, images_of
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.files import write_whole

NAME = "pictures.png"
MOST = 64  # pictures in a PNG
GREYS = " .:-=+*#%@"  # from black to white
WIDEST = 64  # pixels of an image that a terminal shows
CAPTION_WIDTH = 18  # letters of a line under a picture


class Pixel(NamedTuple):
    """How one level is shown: in its colour, or by its letter where there are no colours."""

    letter: str
    colour: tuple[int, int, int]  # RGB


SHAPES = (Pixel(".", (40, 40, 40)), Pixel("r", (213, 50, 40)), Pixel("g", (60, 170, 60)), Pixel("b", (60, 110, 220)))


def palette(source: str, levels: int) -> tuple[Pixel, ...]:
    """The pixel of each level: the three colours of `shapes`, else greys."""
    if source == "shapes":
        return SHAPES
    shades = np.linspace(0, 1, levels)
    return tuple(Pixel(GREYS[round(shade * (len(GREYS) - 1))], (round(shade * 255),) * 3) for shade in shades)


class Pictures(NamedTuple):
    """How the rows of a source are shown."""

    layout: Layout | ImageLayout
    pixels: tuple[Pixel, ...]  # of each level, or of each grey of 8 bits

    def whole(self, rows: Int[np.ndarray, "B L"]) -> Bool[np.ndarray, "B"]:
        """Whether each row has a whole image: a network may draw words in it."""
        if rows.shape[1] != self.layout.length:
            return np.zeros(len(rows), bool)
        return np.all(rows[:, self.layout.text_length :] >= self.layout.text_vocab, axis=1)

    def as_text(self, row: Int[np.ndarray, "L"], coloured: bool) -> Text | None:
        """The image with two characters a pixel; None where the row has none."""
        if self.layout.width > WIDEST or not self.whole(row[None])[0]:
            return None
        images = images_of(self.layout, row[None])
        if coloured:
            lines = [
                Text.assemble(*(("  ", f"on rgb({','.join(map(str, colour))})") for colour in line))
                for line in self.colours_of(images)[0].tolist()
            ]
        else:
            levels = images[0] if images.ndim == 3 else images[0].mean(axis=-1).astype(int)
            lines = [Text("".join(2 * self.pixels[level].letter for level in line)) for line in levels]
        return Text("\n").join(lines)

    def colours_of(
        self, images: Integer[np.ndarray, "n height width *channels"]
    ) -> Integer[np.ndarray, "n height width 3"]:
        """The RGB colours of levels, greys or colours."""
        if images.shape[3:] == (3,):
            return images
        levels = images[..., 0] if images.ndim == 4 else images
        return np.array([pixel.colour for pixel in self.pixels])[levels]

    def caption_of(self, row: Int[np.ndarray, "L"], tokenizer: Tokenizer) -> str:
        """The words of a row."""
        return tokenizer.decode(row[: self.layout.text_length])


def write_pictures(
    folder: pathlib.Path, pictures: Pictures, tokens: Int[Array | np.ndarray, "B L"], tokenizer: Tokenizer
) -> pathlib.Path | None:
    """Writes the first MOST whole images with their captions to pictures.png in `folder`.

    Returns:
        The path; None where no row has a whole image.
    """
    rows = np.asarray(tokens)
    rows = rows[pictures.whole(rows)][:MOST]
    if not len(rows):
        return None
    colours = pictures.colours_of(images_of(pictures.layout, rows))
    columns = min(8, len(rows))
    figure = Figure(figsize=(1.7 * columns, 2.2 * math.ceil(len(rows) / columns)), layout="constrained")
    axes = figure.subplots(math.ceil(len(rows) / columns), columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, row, image in zip(axes, rows, colours, strict=False):
        ax.imshow(image)
        ax.set_title(textwrap.fill(pictures.caption_of(row, tokenizer), CAPTION_WIDTH), fontsize=8, y=-0.1, va="top")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(folder / NAME, picture.getvalue())
    return folder / NAME
