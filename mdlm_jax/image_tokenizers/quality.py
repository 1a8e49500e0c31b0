"""How well a tokenizer of images keeps them, and how evenly it uses its codes."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from scipy.special import entr

from mdlm_jax.image_tokenizers import ImageTokenizer


class Quality(NamedTuple):
    """On images that did not train it."""

    images: int
    squared_error: float  # mean over pixels, whose range is 1
    peak_signal_to_noise: float  # decibels
    share_used: float  # of the codes
    entropy: float  # of their use, nats
    codes_kept: float  # how often a code comes back from the image of its row


def quality(tokenizer: ImageTokenizer, images: UInt8[np.ndarray, "n height width channels"]) -> Quality:
    """Encodes images, decodes them and encodes them once more.

    Args:
        tokenizer: The tokenizer.
        images: One or more images of its size.
    """
    codes = tokenizer.encode(images)
    restored = tokenizer.decode(codes)
    error = float(np.mean(((restored.astype(np.float64) - images) / 255) ** 2))
    counts = np.bincount(codes.ravel(), minlength=tokenizer.vocab_size)
    return Quality(
        images=len(images),
        squared_error=error,
        peak_signal_to_noise=-10 * math.log10(error) if error else math.inf,
        share_used=float(np.mean(counts > 0)),
        entropy=float(entr(counts / counts.sum()).sum()),
        codes_kept=float(np.mean(tokenizer.encode(restored) == codes)),
    )
