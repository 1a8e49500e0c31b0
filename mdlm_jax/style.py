"""What every figure shares in looks: a colour and a marker an objective, and short numbers."""

from collections.abc import Iterable

# Okabe and Ito's palette, safe for colour-blind readers; the objectives of the package keep theirs in every report.
PALETTE = ["#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]  # Matplotlib's names
SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "triangle-right",
]  # the same in Vega's
ORDER = ["ar", "any_order", "masked", "any_order_causal", "masked_lm"]


def number(value: float | int) -> str:
    """3e10, 2.5e-3, 12.3k: short enough for a legend."""
    if 1e3 <= abs(value) < 1e9:
        unit, scale = ("M", 1e6) if abs(value) >= 999_500 else ("k", 1e3)
        return f"{value / scale:.3g}{unit}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def place_in_palette(objective: str, objectives: Iterable[str]) -> int:
    """Of an objective in PALETTE, MARKERS and SHAPES, among these."""
    names = ORDER + sorted(set(objectives) - set(ORDER))
    return names.index(objective) % len(PALETTE)
