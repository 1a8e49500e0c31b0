"""Drawn rows of text and image: the picture under its caption, as blocks of text and as PNG."""

import io
import math
import pathlib
import textwrap
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int, Integer
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

    def image_of(self, row: Int[np.ndarray, "L"]) -> Integer[np.ndarray, "height width *channels"] | None:
        """The image of a row, as `images_of`; None where it is not whole: a network may draw words in it."""
        codes = row[self.layout.text_length :]
        whole = len(row) == self.layout.length and (codes >= self.layout.text_vocab).all()
        return images_of(self.layout, row[None])[0] if whole else None

    def as_text(self, row: Int[np.ndarray, "L"], coloured: bool) -> Text | None:
        """The image with two characters a pixel; None where the row has none."""
        image = self.image_of(row)
        if image is None or image.shape[1] > WIDEST:
            return None
        lines = []
        for line in image:
            shown = [self.pixel_of(np.atleast_1d(value)) for value in line]
            if coloured:
                lines.append(Text.assemble(*(("  ", f"on rgb({','.join(map(str, p.colour))})") for p in shown)))
            else:
                lines.append(Text("".join(2 * p.letter for p in shown)))
        return Text("\n").join(lines)

    def pixel_of(self, value: Integer[np.ndarray, "channels"]) -> Pixel:
        """How a level, a grey or a colour is shown."""
        grey = self.pixels[int(np.mean(value))]
        return grey._replace(colour=tuple(map(int, value))) if value.size == 3 else grey

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
    found = ((row, pictures.image_of(row)) for row in np.asarray(tokens))
    rows = [(row, image) for row, image in found if image is not None][:MOST]
    if not rows:
        return None
    columns = min(8, len(rows))
    figure = Figure(figsize=(1.7 * columns, 2.2 * math.ceil(len(rows) / columns)), layout="constrained")
    axes = figure.subplots(math.ceil(len(rows) / columns), columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, (row, image) in zip(axes, rows, strict=False):
        ax.imshow([[pictures.pixel_of(np.atleast_1d(value)).colour for value in line] for line in image])
        ax.set_title(textwrap.fill(pictures.caption_of(row, tokenizer), CAPTION_WIDTH), fontsize=8, y=-0.1, va="top")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(folder / NAME, picture.getvalue())
    return folder / NAME
