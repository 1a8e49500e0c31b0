"""Images as tokens: fixed patches of few levels without loss, k-means of patches, VQ-VAE and FSQ."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8


class ImageTokenizer(NamedTuple):
    """Images of 8 bits a channel to rows of codes and back. A code stands for a patch of the grid, row by row."""

    described: dict[str, Any]  # kind, height, width, channels, patch, and what belongs to the kind
    vocab_size: int  # V_i, the number of codes
    encode: Callable[[UInt8[np.ndarray, "n height width channels"]], Integer[np.ndarray, "n codes"]]
    decode: Callable[[Integer[np.ndarray, "n codes"]], UInt8[np.ndarray, "n height width channels"]]
    content: bytes  # of its file
    digest: str  # SHA-256 of the content

    @property
    def lossless(self) -> bool:
        """Whether codes and images of its few levels correspond one to one."""
        return self.described["kind"] == "levels"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.described["height"], self.described["width"], self.described["channels"]

    @property
    def length(self) -> int:
        """The codes of an image."""
        return (self.described["height"] // self.described["patch"]) * (
            self.described["width"] // self.described["patch"]
        )
