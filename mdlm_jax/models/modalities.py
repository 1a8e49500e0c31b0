"""Rows of text and image as a network sees them: the modality of a position, and its rotary coordinates."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.models.architecture import Architecture


def is_image(architecture: Architecture, positions: Int[Array, "*n P"]) -> Bool[Array, "*n"]:
    """Whether the token that a position predicts is one of the image: its last coordinate says which token that is."""
    return positions[..., -1] >= architecture.text_length


def rotary_coordinates(
    architecture: Architecture, positions: Int[Array, "*n P"]
) -> Int[Array, "*n P"] | Float[Array, "*n 2"]:
    """The coordinates that rotate queries and keys.

    With `image_rope` of 2d the n words have (0, 0) to (n - 1, n - 1), and the patch in row r and column c of the image
    has (n + r / f, n + c / f) with the `image_rope_factor` f. Each coordinate turns half of the frequencies. So scores
    between words depend on their distance, those between patches on both distances, and an image that is f times as
    high and wide spans what the network knows from smaller ones.

    Args:
        architecture: The network, and where a row has its image.
        positions: Places in a row: text, then the image row by row.

    References: Qwen2-VL's M-RoPE, arXiv 2409.12191; position interpolation, arXiv 2306.15595; UniDisc, arXiv
    2503.20853, whose words turn all frequencies by one coordinate.
    """
    a = architecture
    if a.image_rope == "1d":
        return positions
    in_image = positions - a.text_length
    patch = jnp.concatenate([in_image // a.image_columns, in_image % a.image_columns], axis=-1)
    return jnp.where(in_image >= 0, a.text_length + patch / a.image_rope_factor, positions)
