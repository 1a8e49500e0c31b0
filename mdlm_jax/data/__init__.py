"""Training data. The rest of the package sees it only through these two types."""

# ruff: noqa: UP037  shapes are strings

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # `Array` imports jax, which the processes that tokenise do not need
    import numpy as np
    from jaxtyping import Array, Bool, Int


class Example(NamedTuple):
    """One row of tokens."""

    tokens: Int[Array | np.ndarray, "L"]
    segments: Int[Array | np.ndarray, "L"]  # 0 is padding; documents count from 1; attention never crosses them
    prompt_mask: Bool[Array | np.ndarray, "L"]  # given (a prompt): never noised, never scored


class Batch(NamedTuple):
    """B examples, and the position of each in the global batch: the only thing its noise may depend on."""

    example: Example  # leading axis B
    index: Int[Array | np.ndarray, "B"]
