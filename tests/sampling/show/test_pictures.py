"""Pictures of drawn rows, against an image drawn by hand."""

import numpy as np
from matplotlib.image import imread

from mdlm_jax.data.captioned import layout_of, row_of
from mdlm_jax.data.images import to_codes
from mdlm_jax.data.tokenizer import words_and_codes_tokenizer
from mdlm_jax.sampling.show.pictures import GREYS, SHAPES, Pictures, palette, write_pictures

LAYOUT = layout_of("shapes", "patch=1")
SHOWN = Pictures(LAYOUT, SHAPES)
IMAGE = np.zeros((6, 6), int)
IMAGE[0, 1], IMAGE[5, 5] = 2, 1
ROW = row_of(LAYOUT, np.array([[0, 5, 9, 13]]), to_codes(IMAGE[None], 1, 4))[0]


def test_blocks():
    """Two characters a pixel: letters, or spaces on its colour."""
    assert SHOWN.as_text(ROW, False).plain.splitlines() == ["..gg........", *["............"] * 4, "..........rr"]
    coloured = SHOWN.as_text(ROW, True)
    assert coloured.plain.strip() == "" and str(coloured.spans[1].style) == "on rgb(60,170,60)"


def test_rows_without_a_whole_image():
    """A word in the place of a code, and a row that ends early."""
    spoilt = ROW.copy()
    spoilt[7] = 0
    assert SHOWN.as_text(spoilt, False) is SHOWN.as_text(ROW[:9], False) is None


def test_png_has_the_colours(tmp_path):
    tokenizer = words_and_codes_tokenizer(list(LAYOUT.words), 4)
    assert write_pictures(tmp_path, SHOWN, ROW[None, :9], tokenizer) is None
    pixels = (imread(write_pictures(tmp_path, SHOWN, np.stack([ROW] * 3), tokenizer))[..., :3] * 255).round()
    shares = [(pixels == colour).all(axis=-1).sum() for _, colour in SHAPES]
    assert shares[0] > 20 * shares[1] > 0 and abs(shares[2] - shares[1]) < 0.2 * shares[1] and shares[3] == 0
    assert SHOWN.caption_of(ROW, tokenizer) == "a green square left"


def test_greys():
    """From black to white."""
    greys = palette("digits", 17)
    assert (greys[0].colour, greys[16].colour) == ((0, 0, 0), (255, 255, 255))
    assert (greys[0].letter, greys[16].letter) == (GREYS[0], GREYS[-1])
