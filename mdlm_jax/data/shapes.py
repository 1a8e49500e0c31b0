"""Captioned pictures made by rule: one coloured shape on a grid, whose joint entropy with its caption is known exactly.

A picture is 6 x 6 pixels of 4 levels: the background and three colours. A caption is four words, an opening, a colour,
a shape and a side. The picture decides the side and the meaning of the colour word, but not the opening nor which of
two words names the colour; one caption in four leaves out which shape it is. A caption leaves open where on its side
the shape is. So no entropy or mutual information is trivial.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

SIDE, LEVELS = 6, 4
OPENINGS = {"a": 0.5, "one": 0.3, "the": 0.2}
COLOURS = {("red", "crimson"): 0.5, ("green", "lime"): 0.3, ("blue", "azure"): 0.2}  # level 1, 2, 3
FIRST_NAME = 0.75  # how often the first of a colour's two words names it
NAMED = 0.75  # how often a caption says which shape it is
UNNAMED = "shape"
BITMAPS = {  # equally likely
    "square": ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "cross": ((0, 1, 0), (1, 1, 1), (0, 1, 0)),
    "ring": ((1, 1, 1), (1, 0, 1), (1, 1, 1)),
}
SIDES = ("left", "right")
WORDS = (*OPENINGS, *itertools.chain(*COLOURS), *BITMAPS, UNNAMED, *SIDES)


class CaptionedPictures(NamedTuple):
    """The joint distribution of pictures and captions, as tables."""

    images: Int[np.ndarray, "P 6 6"]  # all pictures, each once
    captions: Int[np.ndarray, "C 4"]  # all captions, as numbers of WORDS
    joint: Float[np.ndarray, "P C"]  # probabilities


class Entropies(NamedTuple):
    """Entropies in nats a row."""

    joint: float
    text: float
    image: float
    text_given_image: float
    image_given_text: float


def captioned_shapes() -> CaptionedPictures:
    """The distribution: 144 pictures times 144 captions."""
    corners = range(SIDE - 2)  # of a 3 x 3 shape: its upper row or left column
    number = {word: index for index, word in enumerate(WORDS)}
    names = [name for pair in COLOURS for name in pair]
    captions = list(itertools.product(OPENINGS, names, (*BITMAPS, UNNAMED), SIDES))
    images, joint = [], []
    for kind, level, row, column in itertools.product(BITMAPS, range(1, LEVELS), corners, corners):
        image = np.zeros((SIDE, SIDE), np.int32)
        image[row : row + 3, column : column + 3] = level * np.array(BITMAPS[kind])
        images.append(image)
        pair = list(COLOURS)[level - 1]
        chance = COLOURS[pair] / (len(BITMAPS) * len(corners) ** 2)
        named = dict(zip(pair, (FIRST_NAME, 1 - FIRST_NAME), strict=True))
        kinds, side = {kind: NAMED, UNNAMED: 1 - NAMED}, SIDES[column >= len(corners) // 2]
        joint.append(
            [
                chance * OPENINGS[opening] * named.get(colour, 0) * kinds.get(named_kind, 0) * (named_side == side)
                for opening, colour, named_kind, named_side in captions
            ]
        )
    numbers = np.array([[number[word] for word in words] for words in captions], np.int32)
    return CaptionedPictures(np.stack(images), numbers, np.array(joint))


def entropies(joint: Float[np.ndarray, "P C"]) -> Entropies:
    """The entropies of a joint distribution of pictures and captions, by their definitions."""

    def entropy(probability) -> float:
        return float(-xlogy(probability, probability).sum())

    both, image, text = entropy(joint), entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))
    return Entropies(both, text, image, both - image, both - text)
