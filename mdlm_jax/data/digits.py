"""Handwritten digits of scikit-learn with captions by template: 1,797 images of 8 x 8 pixels with 17 grey levels.

A caption is three words, an opening, a style and a name, such as `a bold seven` or `the thin 3`. The image decides the
style, which is how much ink it has, and which digit the name says; it decides neither the opening nor whether the name
is a word or a figure. Both are drawn anew for each row.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import entr

from mdlm_jax.errors import UserError

SIDE, LEVELS = 8, 17
OPENINGS = {"a": 0.5, "the": 0.3, "this": 0.2}
STYLES = {"thin": 0.0, "plain": 0.29, "bold": 0.32}  # the least mean level of each, of 0 to 1: about a third each
SPELLED = 0.75  # how often the name is a word
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = (*OPENINGS, *STYLES, *NAMES, *map(str, range(10)))
TEXT_LENGTH = 3
NAME_AT = 2  # the position of the name in a caption
HELD_OUT = 64  # images whose first byte of SHA-256 is below this, of 256
NUMBER = {word: index for index, word in enumerate(WORDS)}
SPELLED_NAMES, FIGURES = (np.array([NUMBER[name] for name in names]) for names in (NAMES, map(str, range(10))))


class Digits(NamedTuple):
    """All images, in the order of scikit-learn."""

    images: Int[np.ndarray, "n 8 8"]  # levels
    labels: Int[np.ndarray, "n"]
    held_out: Bool[np.ndarray, "n"]  # by the content of the image alone, whatever the levels are
    digest: str  # SHA-256 of all images and labels as scikit-learn has them


def load_digits(levels: int = LEVELS) -> Digits:
    """Reads the images that scikit-learn holds, and rounds them to fewer levels; 17 keeps them as they are.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise UserError(
            "data.source='digits' needs scikit-learn; accepted: after pip install 'mdlm-jax[images]'"
        ) from error
    found = load()
    pixels, labels = found.images.astype(np.uint8), found.target.astype(np.int64)
    held_out = np.array([hashlib.sha256(image.tobytes()).digest()[0] < HELD_OUT for image in pixels])
    digest = hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    images = np.rint(pixels * ((levels - 1) / (LEVELS - 1))).astype(np.int64)
    return Digits(images, labels, held_out, digest)


def styles_of(images: Int[np.ndarray, "n 8 8"], levels: int) -> Int[np.ndarray, "n"]:
    """The word for the style of each image, by the mean of its levels."""
    ink = images.mean(axis=(1, 2)) / (levels - 1)
    number = np.searchsorted(list(STYLES.values()), ink, side="right") - 1
    return np.array([NUMBER[style] for style in STYLES])[number]


def captions_of(
    styles: Int[np.ndarray, "n"], labels: Int[np.ndarray, "n"], chances: Float[np.ndarray, "2 n"]
) -> Int[np.ndarray, "n 3"]:
    """A caption for each image.

    Args:
        styles: Numbers of words.
        labels: The digits.
        chances: Uniform in [0, 1): they choose the opening, and whether the name is a word.
    """
    opening = np.searchsorted(np.cumsum(list(OPENINGS.values()))[:-1], chances[0], side="right")
    name = np.where(chances[1] < SPELLED, SPELLED_NAMES[labels], FIGURES[labels])
    return np.stack([opening, styles, name], axis=1)


def ten_captions(captions: Int[np.ndarray, "n 3"]) -> Int[np.ndarray, "n 10 3"]:
    """Each caption with the name of every digit in turn, all words or all figures, as its own name is."""
    figures = np.isin(captions[:, NAME_AT], FIGURES)
    found = np.repeat(captions[:, None], 10, axis=1)
    found[:, :, NAME_AT] = np.where(figures[:, None], FIGURES, SPELLED_NAMES)
    return found


def undecided_nats() -> float:
    """H(caption given image): the entropy of the opening and of the kind of name."""
    return float(entr([*OPENINGS.values(), SPELLED, 1 - SPELLED]).sum())
