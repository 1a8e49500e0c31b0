"""Images as tokens without loss: a patch of few-level pixels is one number in base `levels`, and back."""

from typing import Any, TypeVar

import numpy as np
from jaxtyping import Integer

from mdlm_jax.errors import UserError

MOST_CODES = 2**16  # of a patch: more are no vocabulary

AnyArray = TypeVar("AnyArray", bound=Any)  # of NumPy or jax


def check_tiling(height: int, width: int, patch: int) -> None:
    """Raises UserError for patches that do not tile an image."""
    if patch < 1 or height % patch or width % patch:
        raise UserError(f"patch={patch}; accepted: a divisor of the image's sides, {height} and {width}")


def check_patches(height: int, width: int, patch: int, levels: int, channels: int = 1) -> None:
    """Raises UserError for patches that do not tile an image, or that have too many codes."""
    check_tiling(height, width, patch)
    numbers = patch * patch * channels
    if levels < 2 or numbers > 16 or levels**numbers > MOST_CODES:
        raise UserError(
            f"patch={patch}, levels={levels}: {levels}^{numbers} codes; accepted: levels >= 2, and at most "
            f"{MOST_CODES:,} codes"
        )


def to_codes(
    images: Integer[np.ndarray, "n height width *channels"], patch: int, levels: int
) -> Integer[np.ndarray, "n codes"]:
    """The code of each patch, row by row. It is a bijection between images and rows of codes.

    Args:
        images: Pixels in 0 .. levels - 1, with or without an axis of channels.
        patch: Side of a patch, pixels.
        levels: Values of a pixel.

    Returns:
        Codes in 0 .. levels^(patch^2 channels) - 1, (height / patch)(width / patch) an image.

    Raises:
        UserError: The patches do not tile the image, or a pixel is out of range.
    """
    images = images[..., None] if images.ndim == 3 else images
    check_patches(*images.shape[1:3], patch, levels, images.shape[3])
    if images.size and not 0 <= images.min() <= images.max() < levels:
        raise UserError(f"images: pixels from {images.min()} to {images.max()}; accepted: 0 to {levels - 1}")
    patches = to_patches(images, patch).astype(np.int64)
    return (patches @ levels ** np.arange(patches.shape[-1])).reshape(len(images), -1)


def to_images(
    codes: Integer[np.ndarray, "n codes"], height: int, width: int, patch: int, levels: int, channels: int | None = None
) -> Integer[np.ndarray, "n height width *channels"]:
    """The images of rows of codes: the inverse of `to_codes`. Without `channels` they have no such axis.

    Raises:
        UserError: The patches do not tile the image, or a code is out of range.
    """
    check_patches(height, width, patch, levels, channels or 1)
    numbers = patch * patch * (channels or 1)
    num_codes = levels**numbers
    if codes.size and not 0 <= codes.min() <= codes.max() < num_codes:
        raise UserError(f"codes: from {codes.min()} to {codes.max()}; accepted: 0 to {num_codes - 1}")
    patches = codes.reshape(-1, height // patch, width // patch, 1) // levels ** np.arange(numbers) % levels
    images = from_patches(patches, patch)
    return images if channels else images[..., 0]


def to_patches(images: AnyArray, patch: int) -> AnyArray:
    """The pixels of each patch in one axis: [n, height, width, channels] to [n, rows, columns, pixels]."""
    n, height, width, channels = images.shape
    tiles = images.reshape(n, height // patch, patch, width // patch, patch, channels).transpose(0, 1, 3, 2, 4, 5)
    return tiles.reshape(n, height // patch, width // patch, patch * patch * channels)


def from_patches(patches: AnyArray, patch: int) -> AnyArray:
    """The inverse of `to_patches`."""
    n, rows, columns, pixels = patches.shape
    tiles = patches.reshape(n, rows, columns, patch, patch, pixels // patch**2).transpose(0, 1, 3, 2, 4, 5)
    return tiles.reshape(n, rows * patch, columns * patch, pixels // patch**2)
