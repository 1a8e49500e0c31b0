"""A number that the runs do not support, and how far from the runs a law may be asked."""

from typing import NamedTuple

import numpy as np

MAX_DECADES = 1.5  # outside what was fitted; further, nothing is said


class Refusal(NamedTuple):
    """Stands where a number would, and says why there is none."""

    reason: str


def too_far(what: str, value: float, low: float, high: float) -> Refusal | None:
    """A refusal where `value` lies more than 1.5 decades outside `low` to `high`, which the runs cover."""
    beyond = max(np.log10(low / value), np.log10(value / high))
    if beyond > MAX_DECADES:
        return Refusal(f"{what} {value:.2g} lies {beyond:.1f} decades outside the fitted {low:.2g} to {high:.2g}")
    return None
