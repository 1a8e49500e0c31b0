"""Rows of any length for networks trained in blocks: each moved to where its blocks begin, and back."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.sampling.base import Trace


class Rows(NamedTuple):
    """Rows as they are drawn."""

    tokens: Int[np.ndarray, "B N"]
    moved: Int[np.ndarray, "B"]  # how far to the left each row stands of where it was


def block_rows(tokens: Int[np.ndarray, "B L"], mask_id: int, size: int) -> Rows:
    """Rows whose padding at the left is whole blocks, and whose length is: what is missing at the right is masks.

    The tokens drawn there are cut off later. No position sees a later block, so they change none but those of their own
    block, which are drawn together with them.
    """
    padding = (tokens < 0).sum(axis=1)
    moved = padding % size if size else np.zeros_like(padding)
    length = tokens.shape[1]
    width = -(-length // size) * size if size else length
    if not moved.any() and width == length:
        return Rows(tokens, moved)
    rows = np.full((len(tokens), width), mask_id, np.int32)
    for row, old, offset in zip(rows, tokens, moved, strict=True):
        row[: length - offset] = old[offset:]
    return Rows(rows, moved)


def rows_back(rows: Rows, tokens: Int[Array, "B N"], trace: Trace, length: int) -> tuple[Int[Array, "B L"], Trace]:
    """The drawn rows where they were, without what was added at their right."""
    if not rows.moved.any():
        if tokens.shape[1] == length:
            return tokens, trace
        return tokens[:, :length], trace._replace(
            step=trace.step[:, :length], log_probability=trace.log_probability[:, :length]
        )
    source = jnp.arange(length) - jnp.asarray(rows.moved)[:, None]

    def back(field, padding):
        return jnp.where(source >= 0, jnp.take_along_axis(field, jnp.maximum(source, 0), axis=1), padding)

    return back(tokens, -1), Trace(back(trace.step, -1), back(trace.log_probability, 0), trace.evaluations)
