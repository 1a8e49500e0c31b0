"""Trains a tokenizer of images on pictures, and writes it with a sheet of images that it restored."""

import io
import pathlib
from typing import Any

import numpy as np
import rich.console
import rich.progress
from jaxtyping import UInt8

from mdlm_jax.data.build_images import check_splits, held_out
from mdlm_jax.data.pixels import Faults, captioned_pixels
from mdlm_jax.errors import UserError, one_line
from mdlm_jax.files import write_whole
from mdlm_jax.image_tokenizers.quality import quality
from mdlm_jax.image_tokenizers.store import made

MOST_BYTES = 4 << 30  # of training images in memory; those after it are not read
MOST_HELD_OUT = 4096  # images that quality is measured on
ON_SHEET = 16  # pairs of images


def train_and_write(
    out: pathlib.Path,
    described: dict[str, Any],
    *,
    images: str,
    resize: bool,
    faulty: str,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """Trains a tokenizer on the images that are not held out, and measures it on those that are.

    Args:
        out: The file. Beside it goes a .png: held-out images above what their codes restore.
        described: As in `made`.
        images: As `path` in `read_pictures`.
        resize: As in `build_images`.
        faulty: As in `build_images`.
        steps: Steps of training; a tokenizer without loss needs none.
        seed: Of training.

    Returns:
        The quality on held-out images, counts, and the digest of the file.

    Raises:
        UserError: A picture is refused, a split has none, or a file cannot be written; neither is left then.
    """
    shape = (described["height"], described["width"], described["channels"])
    faults = Faults(faulty)
    train, validation = _splits(images, shape, resize, faults)
    if described["kind"] == "levels":
        tokenizer = made(described, {})
    else:
        from mdlm_jax.image_tokenizers.train import train_image_tokenizer

        columns = (*rich.progress.Progress.get_default_columns(), "squared error {task.fields[error]:.5f}")
        with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as progress:
            task = progress.add_task(f"train {described['kind']}", total=steps, error=float("nan"))

            def report(step: int, error: float) -> None:
                progress.update(task, completed=step, error=error)

            tokenizer = train_image_tokenizer(train, described, steps=steps, seed=seed, report=report)
    found = quality(tokenizer, validation)
    some = validation[np.unique(np.linspace(0, len(validation) - 1, ON_SHEET).astype(int))]
    drawn = sheet(some, tokenizer.decode(tokenizer.encode(some)))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out.with_suffix(".png"), drawn)
        try:
            write_whole(out, tokenizer.content)
        except OSError:
            out.with_suffix(".png").unlink()
            raise
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({one_line(error)}); accepted: a file") from error
    return {
        "codes": tokenizer.vocab_size,
        "tokens_per_image": tokenizer.length,
        "lossless": tokenizer.lossless,
        "training_images": len(train),
        "held_out": found._asdict(),
        "skipped": dict(faults.counts),
        "sha256": tokenizer.digest,
    }


def _splits(images: str, shape: tuple[int, int, int], resize: bool, faults: Faults) -> tuple[np.ndarray, np.ndarray]:
    train, validation, size = [], [], 0
    for picture in captioned_pixels(images, "", shape, resize, faults, captions=False):
        if not held_out(picture.pixels):
            train.append(picture.pixels)
            size += picture.pixels.nbytes
        elif len(validation) < MOST_HELD_OUT:
            validation.append(picture.pixels)
        if size >= MOST_BYTES:
            break
    check_splits(images, {"train": len(train), "validation": len(validation)}, faults)
    return np.stack(train), np.stack(validation)


def sheet(
    images: UInt8[np.ndarray, "n height width channels"], restored: UInt8[np.ndarray, "n height width channels"]
) -> bytes:
    """A PNG: images in the upper row, and below each what its codes restore."""
    from PIL import Image

    rows = [np.concatenate(list(np.pad(row, ((0, 0), (1, 1), (1, 1), (0, 0)))), axis=1) for row in (images, restored)]
    pixels = np.concatenate(rows, axis=0)
    scale = max(1, 96 // images.shape[1])
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    content = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(content, "PNG")
    return content.getvalue()
