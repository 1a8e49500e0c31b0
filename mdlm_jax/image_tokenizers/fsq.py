"""Finite scalar quantization: each number of a vector is rounded to one of a few levels, so no codebook is learned.

Reference: arXiv 2309.15505.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.image_tokenizers.codebook import straight_through

MARGIN = 1e-3  # the bounds lie this much beyond the outer levels, which then are reached


def quantize(vectors: Float[Array, "*n d"], levels: Sequence[int]) -> Float[Array, "*n d"]:
    """Rounds number i of each vector to one of levels[i] values in [-1, 1], with the gradient of its smooth bound."""
    count = jnp.array(levels)
    half, offset = (count - 1) * (1 + MARGIN) / 2, jnp.where(count % 2 == 0, 0.5, 0.0)
    bounded = jnp.tanh(vectors + jnp.arctanh(offset / half)) * half - offset
    return straight_through(bounded, jnp.round(bounded)) / (count // 2)


def codes_of(quantized: Float[Array, "*n d"], levels: Sequence[int]) -> Int[Array, "*n"]:
    """The code of each quantized vector, from 0 to the product of the levels - 1: a bijection."""
    digits = jnp.round((quantized + 1) * (jnp.array(levels) // 2)).astype(jnp.int32)
    return jnp.sum(digits * _places(levels), axis=-1)


def vectors_of(codes: Int[Array, "*n"], levels: Sequence[int]) -> Float[Array, "*n d"]:
    """The quantized vector of each code: the inverse of `codes_of`."""
    count = jnp.array(levels)
    return (codes[..., None] // _places(levels) % count) / (count // 2) - 1.0


def _places(levels: Sequence[int]) -> np.ndarray:
    return np.cumprod([1, *levels[:-1]]).astype(np.int32)
