"""Pictures of drawn rows, against an image drawn by hand."""

from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.image import imread

from mdlm_jax.data.captioned import Layout, layout_of, row_of
from mdlm_jax.data.tokenizer import words_and_codes_tokenizer
from mdlm_jax.image_tokenizers.lossless import to_codes
from mdlm_jax.sampling.show.pictures import GREYS, SHAPES, Pictures, palette, write_pictures


class World(NamedTuple):
    layout: Layout
    shown: Pictures
    row: np.ndarray


@pytest.fixture(scope="module")
def world():
    layout, image = layout_of("shapes", "patch=1"), np.zeros((6, 6), int)
    image[0, 1], image[5, 5] = 2, 1
    row = row_of(layout, np.array([[0, 5, 9, 13]]), to_codes(image[None], 1, 4))[0]
    return World(layout, Pictures(layout, SHAPES), row)


def test_blocks(world):
    """Two characters a pixel: letters, or spaces on its colour."""
    assert world.shown.as_text(world.row, False).plain.splitlines() == [
        "..gg........",
        *["............"] * 4,
        "..........rr",
    ]
    coloured = world.shown.as_text(world.row, True)
    assert coloured.plain.strip() == "" and str(coloured.spans[1].style) == "on rgb(60,170,60)"


def test_rows_without_a_whole_image(world):
    """A word in the place of a code, and a row that ends early."""
    spoilt = world.row.copy()
    spoilt[7] = 0
    assert world.shown.as_text(spoilt, False) is world.shown.as_text(world.row[:9], False) is None


def test_png_has_the_colours(world, tmp_path):
    tokenizer = words_and_codes_tokenizer(list(world.layout.words), 4)
    assert write_pictures(tmp_path, world.shown, world.row[None, :9], tokenizer) is None
    pixels = (
        imread(write_pictures(tmp_path, world.shown, np.stack([world.row] * 3), tokenizer))[..., :3] * 255
    ).round()
    shares = [(pixels == colour).all(axis=-1).sum() for _, colour in SHAPES]
    assert shares[0] > 20 * shares[1] > 0 and abs(shares[2] - shares[1]) < 0.2 * shares[1] and shares[3] == 0
    assert world.shown.caption_of(world.row, tokenizer) == "a green square left"


def test_greys():
    """From black to white."""
    greys = palette("digits", 17)
    assert (greys[0].colour, greys[16].colour) == ((0, 0, 0), (255, 255, 255))
    assert (greys[0].letter, greys[16].letter) == (GREYS[0], GREYS[-1])
