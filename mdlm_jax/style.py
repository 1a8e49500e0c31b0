"""What all figures share: one colour and one marker for each objective, and short numbers."""

from collections.abc import Iterable

# Okabe and Ito's palette, safe for colour-blind readers. The objectives in ORDER have the same colour in every report.
PALETTE = ["#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]  # Matplotlib's names
# the same in Vega's
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right"]
ORDER = ["ar", "any_order", "masked", "any_order_causal", "masked_lm"]


def number(value: float | int) -> str:
    """3e10, 2.5e-3, 12.3k: short enough for a legend."""
    if 1e3 <= abs(value) < 1e9:
        unit, scale = ("M", 1e6) if abs(value) >= 999_500 else ("k", 1e3)
        return f"{value / scale:.3g}{unit}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def palette_index(objective: str, objectives: Iterable[str]) -> int:
    """The index of an objective's colour in PALETTE, and of its marker in MARKERS.

    Objectives in ORDER keep theirs; the others take what is free among `objectives`, and repeat once all are taken.
    """
    return _indices(objective, objectives)[0]


def shape_index(objective: str, objectives: Iterable[str]) -> int:
    """The index of an objective's shape in SHAPES. Where a colour repeats, its shape does not."""
    index, repeats = _indices(objective, objectives)
    return (index + repeats) % len(SHAPES)


def _indices(objective: str, objectives: Iterable[str]) -> tuple[int, int]:
    """(index in the palette, how often all free colours were taken before)."""
    if objective in ORDER:
        return ORDER.index(objective), 0
    names = set(objectives)
    free = [one for one in range(len(PALETTE)) if one not in {ORDER.index(name) for name in names & set(ORDER)}]
    repeats, index = divmod(sorted(names - set(ORDER)).index(objective), len(free))
    return free[index], repeats
