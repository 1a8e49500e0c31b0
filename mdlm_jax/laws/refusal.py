"""Refusals: reasons in the place of numbers that the runs do not support, such as far extrapolations."""

from typing import NamedTuple

import numpy as np

MAX_DECADES = 1.5  # outside the fitted range; there is no prediction beyond


class Refusal(NamedTuple):
    """Why there is no number."""

    reason: str


def too_far(what: str, value: float, low: float, high: float) -> Refusal | None:
    """A refusal if `value` lies more than 1.5 decades outside the fitted range from `low` to `high`."""
    beyond = max(np.log10(low / value), np.log10(value / high))
    if beyond > MAX_DECADES:
        return Refusal(f"{what} {value:.2g} lies {beyond:.1f} decades outside the fitted {low:.2g} to {high:.2g}")
    return None
