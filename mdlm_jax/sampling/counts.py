"""How many masks each step of a block unmasks: the published schedules of counts, in float64 as published."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Counts = Int[np.ndarray, "S"]
EPSILON = 1e-5  # where SMDM's grid of times ends


def even(num_masked: int, steps: int) -> Counts:
    """Evenly, the first steps one more where needed (LLaDA, arXiv 2502.09992).

    >>> even(8, 3).tolist()
    [3, 3, 2]
    """
    return num_masked // steps + (np.arange(steps) < num_masked % steps)


def rounded(noised: Callable[[Float[np.ndarray, "n"]], Float[np.ndarray, "n"]]) -> Callable[[int, int], Counts]:
    """Of the masks left, the share 1 - noised(s) / noised(t), rounded half to even; steps without a token are left out
    (dllm, github.com/ZHZisZZ/dllm)."""

    def counts(num_masked: int, steps: int) -> Counts:
        grid, found, left = np.arange(steps, -1, -1) / steps, [], num_masked
        shares = 1 - noised(grid[1:]) / noised(grid[:-1])
        for share in shares:
            found.append(min(int(np.round(left * share)), left))
            left -= found[-1]
        found = [count for count in found if count]
        return np.array(found + [0] * (steps - len(found)))

    return counts


def floored(num_masked: int, steps: int) -> Counts:
    """Of the masks left, the share 1 - s / t, rounded down; the last step takes the rest (SMDM, arXiv 2410.18514)."""
    times, found, left = np.linspace(1, EPSILON, steps + 1), [], num_masked
    for t, s in zip(times[:-1], [*times[1:-1], 0.0], strict=True):
        found.append(int(left * (1 - s / t)))
        left -= found[-1]
    return np.array(found)


def along(curve: Callable[[Float[np.ndarray, "S"]], Float[np.ndarray, "S"]]) -> Callable[[int, int], Counts]:
    """In proportion to a curve of r = 1 .. 0, rounded, at least one; the last step takes the rest (UniDisc, arXiv
    2503.20853)."""

    def counts(num_masked: int, steps: int) -> Counts:
        weights = curve(np.linspace(1, 0, steps)) if steps > 1 else np.ones(1)
        found = np.maximum(np.round(weights / weights.sum() * num_masked), 1).astype(int)
        found[-1] = max(found[-1] + num_masked - found.sum(), 0)
        return found

    return counts


CURVES = {
    "root": lambda r: 1 - np.sqrt(r),
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
    "cosine": lambda r: np.cos(r * np.pi / 2),
    "arccos": lambda r: np.arccos(r) / (np.pi / 2),
}

# name -> (masks at the start of the block, steps) -> tokens of each step
COUNTS: dict[str, Callable[[int, int], Counts]] = {
    "linear": even,
    "dllm_linear": rounded(lambda t: t),
    "dllm_cosine": rounded(lambda t: np.cos(np.pi / 2 * (1 - t))),
    "smdm": floored,
    "cosine": along(CURVES["cosine"]),
    "arccos": along(CURVES["arccos"]),
}


@functools.lru_cache(maxsize=16)
def count_table(name: str, size: int, steps: tuple[int, ...]) -> Int[np.ndarray, "blocks size S"]:
    """[i, n, j]: tokens of step j in a block that begins with n masks and has steps[i] steps."""
    table = np.zeros((len(steps), size + 1, max(steps)), np.int32)
    for index, total in enumerate(steps):
        for num_masked in range(1, size + 1):
            table[index, num_masked, :total] = COUNTS[name](num_masked, total)
    return table
