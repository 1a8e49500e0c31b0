"""Writes captions and images as rows of tokens, into the shards that `data.source='images'` reads."""

import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import rich.progress

from mdlm_jax.data.build import check_new, finish
from mdlm_jax.data.built_images import TOKENIZER, ImageLayout
from mdlm_jax.data.corpus import SPLITS
from mdlm_jax.data.pictures import picture_files
from mdlm_jax.data.pixels import Captioned, Fault, Faults, captioned_pixels
from mdlm_jax.data.shards import open_writer, whole_records
from mdlm_jax.data.sources import HELD_OUT
from mdlm_jax.data.text_and_codes import row_of_caption
from mdlm_jax.data.tokenizer import open_tokenizer, save_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.image_tokenizers.store import open_image_tokenizer
from mdlm_jax.whole_folder import whole_folder

AT_ONCE = 256  # images that are encoded together


def build_images(
    output: str | os.PathLike,
    *,
    images: str,
    field: str,
    image_tokenizer: str,
    tokenizer: str,
    text_length: int,
    resize: bool,
    faulty: str,
) -> dict[str, Any]:
    """Tokenises captions and images and writes them to a new folder, as `build_corpus` writes text.

    A row is a caption, the separator until `text_length` positions are full, and the codes of the image. About 5% of
    the rows are held out: the pixels alone decide it, so that copies of an image are in one split.

    Args:
        output: The folder to make.
        images: As `path` in `read_pictures`.
        field: The field of captions.
        image_tokenizer: The file of the tokenizer of images.
        tokenizer: The tokenizer of captions, as `data.tokenizer`.
        text_length: Positions of text in a row, at least one more than a caption has tokens.
        resize: Cut and scale images of another size than the tokenizer's.
        faulty: What is done about a picture that cannot be used: 'refuse' or 'skip'.

    Returns:
        The manifest; `skipped` counts faulty pictures by the kind of their fault.

    Raises:
        UserError: `output` exists or cannot be written, a picture is refused, or a split has none.
    """
    import tensorflow_datasets  # noqa: F401  imported first: during this import no other thread may import

    check_new(output)
    layout = ImageLayout(open_tokenizer(tokenizer), open_image_tokenizer(image_tokenizer), text_length)
    rows, faults = layout.tokenizer(), Faults(faulty)
    files = picture_files(images)
    pictures = captioned_pixels(images, field, layout.images.shape, resize, faults)
    counts = {split: {"documents": 0, "tokens": 0, "bytes": 0, "records": 0} for split in SPLITS}
    digest = hashlib.sha256()
    with whole_folder(output) as folder, rich.progress.Progress(*COLUMNS) as progress:
        task = progress.add_task("encode", total=None)
        save_tokenizer(rows, folder / TOKENIZER)
        dtype = np.min_scalar_type(layout.vocab_size)
        writer = open_writer(folder, dtype)
        rest = dict.fromkeys(SPLITS, np.empty(0, dtype))
        for batch in _batches(pictures):
            encoded = _encode(layout, batch, faults)
            for split, tokens, size in encoded:
                digest.update(split.encode() + tokens.astype("<i4").tobytes())
                counts[split]["documents"] += 1
                counts[split]["tokens"] += len(tokens)
                counts[split]["bytes"] += size
                rest[split] = np.concatenate([rest[split], tokens.astype(dtype)])
            for split in SPLITS:
                records, rest[split] = whole_records(rest[split])
                writer.add_examples({split: [{"tokens": record} for record in records]})
                counts[split]["records"] += len(records)
            progress.update(task, advance=len(batch))
        check_splits(images, {split: counts[split]["documents"] for split in SPLITS}, faults)
        for split in SPLITS:
            if len(rest[split]):
                writer.add_examples({split: [{"tokens": rest[split]}]})
                counts[split]["records"] += 1
        writer.close_all()
        return finish(
            folder,
            source={"source": "images", "path": images, "field": field, "resize": resize, "faulty": faulty},
            tokenizer={
                "name": tokenizer,
                "fingerprint": rows.fingerprint,
                "vocab_size": rows.vocab_size,
                "separator": rows.separator,
                "images": {**layout.images.described, "positions": layout.images.length},
                "images_sha256": layout.images.digest,
                "text_length": text_length,
            },
            splits=counts,
            files=files,
            more={"skipped": dict(faults.counts), "rows_sha256": digest.hexdigest()},
        )


COLUMNS = (*rich.progress.Progress.get_default_columns(), "{task.completed:,} images")


def _batches(pictures: Iterator[Captioned]) -> Iterator[list[Captioned]]:
    while batch := list(itertools.islice(pictures, AT_ONCE)):
        yield batch


def _encode(layout: ImageLayout, batch: list[Captioned], faults: Faults) -> list[tuple[str, np.ndarray, int]]:
    """(split, tokens of the row, bytes of its caption) of each picture whose caption fits."""
    ids = layout.text.encode_batch([picture.caption for picture in batch])
    codes = layout.images.encode(np.stack([picture.pixels for picture in batch]))
    found = []
    for picture, text, image in zip(batch, ids, codes, strict=True):
        row = row_of_caption(text, layout.text_length, layout.text.separator)
        if row is None:
            most = layout.text_length - 1
            faults.add(
                picture.where,
                Fault("long caption", f"{len(text)} tokens; --text-length={layout.text_length} leaves room for {most}"),
            )
            continue
        tokens = np.concatenate([row, layout.text_vocab + image]).astype(np.int32)
        split = "validation" if held_out(picture.pixels) else "train"
        found.append((split, tokens, len(picture.caption.encode("utf-8"))))
    return found


def check_splits(images: str, counts: dict[str, int], faults: Faults) -> None:
    """Raises UserError where a split has no picture."""
    total = sum(counts.values())
    for split, count in counts.items():
        if not count:
            share = f"about 1 image in {round(1 / HELD_OUT)} is held out"
            found = f": {share}, and {'none' if split == 'validation' else 'each'} of these {total} is" if total else ""
            left_out = f"; left out: {faults.told()}" if faults.counts else ""
            raise UserError(
                f"--images={images}: the split {split!r} has no picture{found}{left_out}; accepted: more images"
            )


def held_out(pixels: np.ndarray) -> bool:
    """Whether an image is held out, by its content alone."""
    first = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:4], "big")
    return first < HELD_OUT * 2**32
