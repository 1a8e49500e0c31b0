"""Pictures as arrays of one size, and what is done about those that are faulty."""

import io
import pathlib
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mdlm_jax.data.pictures import Picture, read_pictures
from mdlm_jax.data.readers import as_text
from mdlm_jax.errors import UserError, one_line

NAMED = 5  # skipped pictures that are named


class Captioned(NamedTuple):
    """An image and its caption."""

    where: str
    pixels: UInt8[np.ndarray, "height width channels"]
    caption: str


class Fault(Exception):
    """A picture that cannot be used: the kind of its fault, for the counts, and what was found."""

    def __init__(self, kind: str, found: str):
        super().__init__(found)
        self.kind = kind


class Faults:
    """Counts pictures with faults, or refuses the first."""

    def __init__(self, faulty: str):
        self.faulty, self.counts = faulty, Counter()

    def add(self, where: str, fault: Fault) -> None:
        """Raises UserError if faulty pictures are refused; the first few of others are named on standard error."""
        if self.faulty == "refuse":
            raise UserError(f"{where}: {fault.kind}: {fault}; --faulty=skip leaves such pictures out")
        if self.counts.total() < NAMED:
            print(f"mdlm-jax: {where} is left out: {fault.kind}: {fault}", file=sys.stderr, flush=True)
        self.counts[fault.kind] += 1

    def told(self) -> str:
        """The counts as text."""
        return ", ".join(f"{count:,} ({kind})" for kind, count in self.counts.items())


def captioned_pixels(
    path: str, field: str, shape: tuple[int, int, int], resize: bool, faults: Faults, captions: bool = True
) -> Iterator[Captioned]:
    """The pictures of a source without those that have faults.

    Args:
        path: As in `read_pictures`.
        field: As in `read_pictures`.
        shape: Height, width and channels of an image.
        resize: Cut the middle out of an image of another size, and scale it.
        faults: Where faults are counted.
        captions: Whether a picture needs a caption.

    Raises:
        UserError: A table is damaged, or a picture has a fault that `faults` refuses.
    """
    for picture in read_pictures(path, field):
        try:
            caption = caption_of(picture) if captions else ""
            yield Captioned(picture.where, pixels_of(picture, shape, resize), caption)
        except Fault as fault:
            faults.add(picture.where, fault)


def caption_of(picture: Picture) -> str:
    """The caption without blanks around it. Raises Fault where there is none."""
    try:
        text = as_text(picture.where, picture.caption).strip()
    except UserError as error:
        raise Fault("no caption", one_line(error)) from error
    if not text:
        raise Fault("no caption", "no text")
    return text


def pixels_of(
    picture: Picture, shape: tuple[int, int, int], resize: bool
) -> UInt8[np.ndarray, "height width channels"]:
    """The image of a picture, grey or in colour. Transparent pixels are white.

    Args:
        picture: The picture.
        shape: Height, width and channels.
        resize: As in `captioned_pixels`.

    Raises:
        Fault: It is missing, damaged, or of another size.
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    if picture.image is None:
        raise Fault("no image", "no file_name and no image")
    if not isinstance(picture.image, bytes | pathlib.Path | np.ndarray):
        raise Fault("damaged", f"the image is a {type(picture.image).__name__}, not bytes or a path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of images so large that they may be an attack
            if isinstance(picture.image, np.ndarray):
                image = Image.fromarray(picture.image[..., 0] if picture.image.shape[-1] == 1 else picture.image)
            else:
                content = picture.image if isinstance(picture.image, bytes) else picture.image.read_bytes()
                image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
            if image.mode.startswith(("I", "F")):
                raise Fault("damaged", f"pixels of mode {image.mode}, more than 8 bits")
            if image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            image = image.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise Fault("no image", f"no file {picture.image}") from error
    except (OSError, ValueError, SyntaxError, TypeError, Warning, Image.DecompressionBombError) as error:
        raise Fault("damaged", one_line(error)) from error
    if image.size != (width, height):
        if not resize:
            raise Fault("size", f"{image.height} x {image.width} pixels, not {height} x {width}; --resize scales them")
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return np.asarray(image, np.uint8).reshape(shape)
