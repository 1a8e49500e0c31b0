"""Whether drawn images are copies of training images: distances to the nearest of them, against held-out images."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

NEAR = 0.01  # held-out images that are nearer than the limit below which a drawn image counts as near


class Nearest(NamedTuple):
    """The training image that is nearest to each image."""

    distance: Float[np.ndarray, "n"]  # root mean square over pixels, whose range is 1
    number: Int[np.ndarray, "n"]


class Memorisation(NamedTuple):
    """A network that copies draws images nearer to training images than held-out images are."""

    drawn_distance: float  # median distance to the nearest training image
    held_out_distance: float
    drawn_near: float  # share of drawn images as near as the nearest 1% of held-out ones
    drawn_nearer: float  # how often a drawn image is nearer than a held-out one; of equal ones half. 0.5: no copies
    standard_error: float  # of drawn_nearer, by Hanley and McNeil (1982)


def nearest(images: Float[np.ndarray, "n pixels"], training: Iterable[Float[np.ndarray, "_ pixels"]]) -> Nearest:
    """The nearest training image of each image. Pixels lie in [0, 1].

    Args:
        images: The images.
        training: One or more training images, some at a time.
    """
    distance, number, first = np.full(len(images), np.inf), np.zeros(len(images), int), 0
    for part in training:
        # differences, not products: the distance of a copy is exactly 0
        squares = np.stack([np.mean((part - image) ** 2, axis=1) for image in images])
        here = squares.argmin(axis=1)
        least = np.take_along_axis(squares, here[:, None], axis=1)[:, 0]
        number = np.where(least < distance, first + here, number)
        distance = np.minimum(distance, least)
        first += len(part)
    return Nearest(np.sqrt(distance), number)


def memorisation(drawn: Float[np.ndarray, "n"], held_out: Float[np.ndarray, "m"]) -> Memorisation:
    """Compares distances to the nearest training image.

    Args:
        drawn: Of drawn images.
        held_out: Of held-out images.
    """
    less = (drawn[:, None] < held_out).mean() + 0.5 * (drawn[:, None] == held_out).mean()
    n, m = len(drawn), len(held_out)
    one, other = less / (2 - less), 2 * less**2 / (1 + less)
    variance = (less * (1 - less) + (n - 1) * (one - less**2) + (m - 1) * (other - less**2)) / (n * m)
    return Memorisation(
        drawn_distance=float(np.median(drawn)),
        held_out_distance=float(np.median(held_out)),
        drawn_near=float(np.mean(drawn <= np.quantile(held_out, NEAR))),
        drawn_nearer=float(less),
        standard_error=float(np.sqrt(max(variance, 0.0))),
    )
