"""Images as tokens without loss: a patch of few-level pixels is one number in base `levels`, and back."""

import numpy as np
from jaxtyping import Integer

from mdlm_jax.errors import UserError

MOST_CODES = 2**16  # of a patch: more are no vocabulary


def check_patches(height: int, width: int, patch: int, levels: int) -> None:
    """Raises UserError for patches that do not tile an image, or that have too many codes."""
    if patch < 1 or height % patch or width % patch:
        raise UserError(f"patch={patch}; accepted: a divisor of the image's sides, {height} and {width}")
    if levels < 2 or levels ** (patch * patch) > MOST_CODES:
        raise UserError(
            f"patch={patch}, levels={levels}: {levels}^{patch * patch} codes; accepted: levels >= 2, and at most "
            f"{MOST_CODES:,} codes"
        )


def to_codes(images: Integer[np.ndarray, "n height width"], patch: int, levels: int) -> Integer[np.ndarray, "n codes"]:
    """The code of each patch, row by row. It is a bijection between images and rows of codes.

    Args:
        images: Pixels in 0 .. levels - 1.
        patch: Side of a patch, pixels.
        levels: Values of a pixel.

    Returns:
        Codes in 0 .. levels^(patch^2) - 1, (height / patch)(width / patch) an image.

    Raises:
        UserError: The patches do not tile the image, or a pixel is out of range.
    """
    count, height, width = images.shape
    check_patches(height, width, patch, levels)
    if images.size and not 0 <= images.min() <= images.max() < levels:
        raise UserError(f"images: pixels from {images.min()} to {images.max()}; accepted: 0 to {levels - 1}")
    tiles = images.reshape(count, height // patch, patch, width // patch, patch).transpose(0, 1, 3, 2, 4)
    return tiles.reshape(count, -1, patch * patch).astype(np.int64) @ levels ** np.arange(patch * patch)


def to_images(
    codes: Integer[np.ndarray, "n codes"], height: int, width: int, patch: int, levels: int
) -> Integer[np.ndarray, "n height width"]:
    """The images of rows of codes: the inverse of `to_codes`.

    Raises:
        UserError: The patches do not tile the image, or a code is out of range.
    """
    check_patches(height, width, patch, levels)
    num_codes = levels ** (patch * patch)
    if codes.size and not 0 <= codes.min() <= codes.max() < num_codes:
        raise UserError(f"codes: from {codes.min()} to {codes.max()}; accepted: 0 to {num_codes - 1}")
    pixels = codes[..., None] // levels ** np.arange(patch * patch) % levels
    tiles = pixels.reshape(len(codes), height // patch, width // patch, patch, patch)
    return tiles.transpose(0, 1, 3, 2, 4).reshape(len(codes), height, width)
