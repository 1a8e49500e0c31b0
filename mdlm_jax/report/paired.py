"""Means over items, and differences of two models on the same items, with their errors."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

LEVEL = 0.95  # of intervals


class Mean(NamedTuple):
    """A sum of sums by a sum of weights over n items, and how much each item moves it."""

    value: float
    influence: Float[np.ndarray, "n"]  # sums to 0


class Interval(NamedTuple):
    """A number with its standard error and half of the width of its interval; None where the items show no spread."""

    value: float
    standard_error: float | None
    half_width: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.half_width is not None and abs(self.value) > self.half_width


def mean(sums: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"]) -> Mean:
    """The ratio of two sums over items.

    >>> mean(np.array([1.0, 0.0]), np.array([1.0, 1.0])).value
    0.5
    """
    value = sums.sum() / weights.sum()
    return Mean(float(value), (sums - value * weights) / weights.sum())


def interval(found: Mean) -> Interval:
    """The interval of a mean over items, by Student's distribution.

    Args:
        found: The mean. Its items are independent.
    """
    return _interval(found.value, found.influence)


def difference(one: Mean, other: Mean) -> Interval:
    """The interval of `one` minus `other`: each item counts by the difference of what it adds to both.

    Args:
        one: A mean.
        other: A mean over the same items, in the same order.
    """
    return _interval(one.value - other.value, one.influence - other.influence)


def _interval(value: float, influence: Float[np.ndarray, "n"]) -> Interval:
    count = len(influence)
    squares = float((influence**2).sum())
    if count < 2 or squares <= 1e-24 * max(value**2, 1e-12):  # all items agree
        return Interval(value, None, None)
    error = (squares * count / (count - 1)) ** 0.5
    return Interval(value, error, float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error)
