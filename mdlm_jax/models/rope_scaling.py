"""Rotary frequencies stretched for longer contexts: linear, Llama 3 and YaRN (arXiv 2309.00071)."""

import math
from functools import lru_cache

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.kinds import parse_kind

# the parameters of each kind, with their defaults; None: must be given
KINDS: dict[str, dict[str, float | None]] = {
    "linear": {"factor": None},
    "llama3": {"factor": None, "low": None, "high": None, "original": None},
    "yarn": {"factor": None, "original": None, "fast": 32.0, "slow": 1.0, "attention": 0.0, "truncate": 1.0},
}


def parse_scaling(text: str) -> tuple[str, dict[str, float]]:
    """The kind and its parameters of a text such as `llama3:factor=8,low=1,high=4,original=8192`.

    Raises:
        UserError: The kind is unknown, or a parameter is unknown, missing or not above 0.
    """
    kind, values = parse_kind("rope scaling", text, KINDS, math.inf, "above 0")
    for name, value in values.items():
        if value is None or (not value and KINDS[kind][name] is None):
            raise UserError(f"rope scaling {text!r}: {name} must be given, above 0")
    return kind, {name: float(value or 0) for name, value in values.items()}


@lru_cache(maxsize=64)
def scaled_frequencies(count: int, base: float, scaling: str) -> tuple[np.ndarray, float]:
    """Radians per position of each of `count` pairs, and the factor on both cosine and sine."""
    kind, p = parse_scaling(scaling)
    plain = base ** (-np.arange(count) / count)
    if kind == "linear":
        return plain / p["factor"], 1.0
    if kind == "llama3":
        turns = p["original"] * plain / (2 * math.pi)  # full turns within the original context
        share = np.clip((turns - p["low"]) / (p["high"] - p["low"]), 0, 1)
        return (1 - share) * plain / p["factor"] + share * plain, 1.0

    def pair_that_turns(times: float) -> float:
        return 2 * count * math.log(p["original"] / (times * 2 * math.pi)) / (2 * math.log(base))

    low, high = pair_that_turns(p["fast"]), pair_that_turns(p["slow"])
    if p["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * count - 1)
    ramp = np.clip((np.arange(count) - low) / max(high - low, 1e-3), 0, 1)
    attention = p["attention"] or 0.1 * math.log(max(p["factor"], 1.0)) + 1
    return plain / p["factor"] * ramp + plain * (1 - ramp), attention
