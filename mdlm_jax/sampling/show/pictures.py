"""Drawn rows of text and image: the picture under its caption, as blocks of text and as PNG."""

import io
import math
import pathlib
import textwrap
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from rich.text import Text

from mdlm_jax.data.captioned import Layout, images_of
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.files import write_whole

NAME = "pictures.png"
MOST = 64  # pictures in a PNG
GREYS = " .:-=+*#%@"  # from black to white
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

    layout: Layout
    pixels: tuple[Pixel, ...]

    def image_of(self, row: Int[np.ndarray, "L"]) -> Int[np.ndarray, "height width"] | None:
        """The image of a row; None where it is not whole: a network may draw words in it."""
        codes = row[self.layout.text_length :]
        whole = len(row) == self.layout.length and (codes >= self.layout.text_vocab).all()
        return images_of(self.layout, row[None])[0] if whole else None

    def as_text(self, row: Int[np.ndarray, "L"], coloured: bool) -> Text | None:
        """The image with two characters a pixel; None where the row has none."""
        image = self.image_of(row)
        if image is None:
            return None
        lines = []
        for levels in image:
            shown = [self.pixels[level] for level in levels]
            if coloured:
                lines.append(Text.assemble(*(("  ", f"on rgb({','.join(map(str, p.colour))})") for p in shown)))
            else:
                lines.append(Text("".join(2 * p.letter for p in shown)))
        return Text("\n").join(lines)

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
    rows = [row for row in np.asarray(tokens) if pictures.image_of(row) is not None][:MOST]
    if not rows:
        return None
    columns = min(8, len(rows))
    figure = Figure(figsize=(1.7 * columns, 2.2 * math.ceil(len(rows) / columns)), layout="constrained")
    axes = figure.subplots(math.ceil(len(rows) / columns), columns, squeeze=False).ravel()
    colours = ListedColormap(np.array([pixel.colour for pixel in pictures.pixels]) / 255)
    for ax in axes:
        ax.axis("off")
    for ax, row in zip(axes, rows, strict=False):
        ax.imshow(pictures.image_of(row), cmap=colours, vmin=0, vmax=len(pictures.pixels) - 1)
        ax.set_title(textwrap.fill(pictures.caption_of(row, tokenizer), CAPTION_WIDTH), fontsize=8, y=-0.1, va="top")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(folder / NAME, picture.getvalue())
    return folder / NAME
