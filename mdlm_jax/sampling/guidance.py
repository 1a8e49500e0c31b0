"""Classifier-free guidance: which readings of a row it needs besides the row itself, and its weight at each time.

A row of text is read once more, without its prompt. In a row of text and image a position is guided by the other
modality alone: the reading for image positions masks the given text, and that for text positions the given image.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

SIDES = ("text", "image")


class Without(NamedTuple):
    """One reading of the rows without a part of what is given."""

    masked: Bool[Array, "B N"]  # the given tokens that it masks
    guides: Bool[Array, "B N"]  # the positions whose predictions it is for


def guided_sides(prompt: Int[np.ndarray, "B P"], length: int, mask_id: int, text_length: int) -> tuple[str, ...]:
    """The positions that guidance acts on: 'all' of a row of text; else 'text', 'image', or both.

    Args:
        prompt: Token ids; V is a mask, and -1 pads a row at its left.
        length: Tokens of a row, the prompt included.
        mask_id: V.
        text_length: Positions of text in rows of text and image; 0: all of a row is text.

    Returns:
        The sides with a position to draw in a row that gives a token of the other side; none where there are none.
    """
    tokens = np.full((len(prompt), length), mask_id)
    tokens[:, : prompt.shape[1]] = prompt
    masked, given = tokens == mask_id, (tokens != mask_id) & (tokens >= 0)
    if not text_length:
        return ("all",) if given.any() else ()
    is_image = np.arange(length) - (tokens < 0).sum(axis=1, keepdims=True) >= text_length
    sides = zip(SIDES, (~is_image, is_image), strict=True)
    return tuple(name for name, own in sides if ((masked & own).any(axis=1) & (given & ~own).any(axis=1)).any())


def readings_without(
    tokens: Int[Array, "B N"], mask_id: int, text_length: int, sides: tuple[str, ...]
) -> tuple[Without, ...]:
    """The readings that guidance of these sides needs.

    Args:
        tokens: Rows before anything is drawn; V is a mask, and -1 pads a row at its left.
        mask_id: V.
        text_length: As in `guided_sides`.
        sides: What `guided_sides` gives.
    """
    given = tokens != mask_id
    if sides == ("all",):
        return (Without(given, jnp.ones_like(given)),)
    is_image = jnp.arange(tokens.shape[1]) - (tokens < 0).sum(axis=1, keepdims=True) >= text_length
    own = {"text": ~is_image, "image": is_image}
    return tuple(Without(given & ~own[side], own[side]) for side in sides)


class Weight(NamedTuple):
    """The weight of guidance at each time: 0 outside [min_time, max_time].

    Reference: UniDisc, arXiv 2503.20853, whose ramp is 1 - t.
    """

    value: Float[Array, ""]
    ramp: bool = False  # multiplied by 1 - t
    min_time: float = 0.0
    max_time: float = 1.0

    def at(self, t: Float[Array, "B"]) -> Float[Array, "B"]:
        """The weight of each row at its time."""
        weight = self.value * (1 - t) if self.ramp else jnp.broadcast_to(self.value, t.shape)
        return jnp.where((self.min_time <= t) & (t <= self.max_time), weight, 0)
