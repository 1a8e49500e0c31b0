"""Llama 3's rope scaling out of a table of divisors, all that a GGUF file says of it (`rope_freqs.weight`)."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from mdlm_jax.models.rope_scaling import scaled_frequencies

LARGEST = 1e9  # parameters beyond it come from no model
TOLERANCE = 1e-5  # relative, of a divisor in float32


def llama3_of(divisors: Float[np.ndarray, "n"], base: float) -> dict[str, Any] | None:
    """The published parameters whose frequencies are those of the table.

    A frequency f is divided by 1 where it turns `high` times or more within the original context O, by the factor
    where it turns at most `low` times. Between the two, s = (O f / 2 pi - low) / (high - low) is the share of the
    plain frequency: a line in f, whose slope and intercept give O and `high` for `low` = 1. Only their ratios count.

    Args:
        divisors: What each plain frequency is divided by, for n pairs of a head.
        base: The base of the plain frequencies.

    Returns:
        Keys of `rope_parameters`; None if no parameters give this table.
    """
    divisors, count = divisors.astype(np.float64), len(divisors)
    if not np.isfinite(divisors).all() or base <= 1 or divisors.min() < 1 - TOLERANCE:
        return None
    factor = float(np.float32(divisors.max()))
    if factor < 1 + TOLERANCE:
        return {"rope_type": "default"}
    between = (divisors > 1 + TOLERANCE) & (divisors < factor * (1 - TOLERANCE))
    if between.sum() < 2:
        return None
    turns = base ** (-np.arange(count) / count)[between] / (2 * math.pi)  # for each position
    plain = (1 / divisors[between] - 1 / factor) / (1 - 1 / factor)
    slope, intercept = np.polyfit(turns, plain, 1)
    if intercept >= 0:
        return None
    high = round(float(1 - 1 / intercept), 3)
    original = float(slope) * (high - 1)
    if not 1 < high < LARGEST or not 1 <= original < LARGEST:
        return None
    original = round(original)
    text = f"llama3:factor={factor!r},low=1.0,high={high!r},original={original}"
    expected = scaled_frequencies(count, base, text)[0]
    if not np.allclose(expected * divisors, base ** (-np.arange(count) / count), rtol=TOLERANCE, atol=0):
        return None
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }
