"""Drawn digits by the number of network evaluations: which digit a classifier reads, Fréchet distance, seconds.

    mdlm-jax train --config=unified_digits --run=runs/digits
    python experiments/digit_quality.py runs/digits

The training takes minutes on two cores, and so does this. Writes experiments/results/digit_quality.json and
docs/images/digit_quality.png.
"""

import json
import math
import pathlib
import sys
import time

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from mdlm_jax.data.captioned import images_of  # noqa: E402
from mdlm_jax.data.digits import LEVELS, NAMES, captions_of, load_digits, styles_of  # noqa: E402
from mdlm_jax.evaluation.image_classifier import (  # noqa: E402
    class_logits,
    features_of,
    frechet_distance,
    moments_of,
    train_classifier,
)
from mdlm_jax.runs.restore import Run, open_run  # noqa: E402
from mdlm_jax.sampling import Confidence, sample  # noqa: E402
from mdlm_jax.sampling.run_sampler import trained_of  # noqa: E402

COMMAND = "mdlm-jax train --config=unified_digits --run=runs/digits && python experiments/digit_quality.py runs/digits"
RESULTS, FIGURE = root / "experiments/results/digit_quality.json", root / "docs/images/digit_quality.png"
EVALUATIONS = (1, 4, 16, 64)
BATCH = 64  # digits drawn at once
NUMBER = 14 * BATCH  # of digits drawn, and of real ones in each half
FEWER = (112, 224, 448, NUMBER)  # real images in each half, to show the bias
SPLITS = 50  # random ones, of each size


def distance(params, one: np.ndarray, other: np.ndarray) -> float:
    """The Fréchet distance between two sets of images f64[n, 64]."""
    return frechet_distance(moments_of(features_of(params, one)), moments_of(features_of(params, other)))


def share(right: np.ndarray) -> dict[str, float]:
    """Accuracy and its standard error over images."""
    return {"accuracy": float(right.mean()), "standard_error": float(right.std(ddof=1) / math.sqrt(right.size))}


def draw(run: Run, captions: np.ndarray, evaluations: int) -> tuple[np.ndarray, list[float]]:
    """An image of each caption f64[n, 64], and the seconds of each batch after the one that compiles.

    Every evaluation unmasks equally many pixels at random positions; 64 of them draw one pixel at a time.
    """
    sampler, trained = Confidence(confidence="random", steps=evaluations), trained_of(run)
    drawn, seconds = [], []
    for first in range(0, len(captions), BATCH):
        began = time.perf_counter()
        batch = captions[first : first + BATCH]
        key = jax.random.fold_in(jax.random.key(0), first)
        rows, trace = sample(key, run.model, run.params, batch, sampler, run.layout.length, trained)
        drawn.append(images_of(run.layout, np.asarray(rows)).reshape(len(batch), -1) / (LEVELS - 1))
        seconds.append(time.perf_counter() - began)
        assert (np.asarray(trace.evaluations) == evaluations).all()
    return np.concatenate(drawn), seconds[1:]


def picture(found: dict, shown: dict[str, np.ndarray]) -> Figure:
    """Both curves, and below them a digit of each class: real, and for each number of evaluations."""
    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    drawn, real = list(found["drawn"].values()), found["real"]
    errors = [one["standard_error"] for one in drawn]
    curves = {
        "accuracy": ("share read as the asked digit", errors, real["held_out"]["accuracy"]),
        "frechet": (f"Fréchet distance, n = {NUMBER}", None, real["halves"]),
    }
    for ax, (name, (title, error, level)) in zip(above.subplots(1, 2), curves.items(), strict=True):
        ax.errorbar(EVALUATIONS, [one[name] for one in drawn], error, marker="o", color="tab:blue", label="drawn")
        ax.axhline(level, color="black", linestyle="--", label="real digits")
        ax.set_xscale("log", base=2)
        ax.set_xticks(EVALUATIONS, [str(number) for number in EVALUATIONS])
        ax.set(xlabel="network evaluations", title=title)
        ax.set_ylim(0, 1.1 * max(*(one[name] for one in drawn), level))
        ax.legend(frameon=False)
    axes = below.subplots(len(shown), 10)
    for row, (name, images) in zip(axes, shown.items(), strict=True):
        for ax, image in zip(row, images.reshape(10, 8, 8), strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, name in zip(axes[0], NAMES, strict=True):
        ax.set_title(name, fontsize=9)
    return figure


def main(folder: pathlib.Path) -> None:
    run, digits, rng = open_run(folder), load_digits(), np.random.default_rng(0)
    pixels, labels, seen = digits.images.reshape(-1, 64) / (LEVELS - 1), digits.labels, ~digits.held_out
    params = train_classifier(pixels[seen], labels[seen])

    def right(images, truth):
        return np.asarray(class_logits(params, images)).argmax(axis=1) == truth

    half, other = rng.permutation(len(pixels))[: 2 * NUMBER].reshape(2, NUMBER)
    splits = {number: [rng.permutation(len(pixels))[: 2 * number] for _ in range(SPLITS)] for number in FEWER}
    bias = {
        number: [distance(params, *pixels[chosen].reshape(2, number, -1)) for chosen in each]
        for number, each in splits.items()
    }
    captions = captions_of(styles_of(digits.images[other], LEVELS), labels[other], rng.random((2, NUMBER)))
    one_each = [int(np.flatnonzero(labels[other] == number)[0]) for number in range(10)]
    found, shown = {}, {"real": pixels[other][one_each]}
    for evaluations in EVALUATIONS:
        images, seconds = draw(run, captions, evaluations)
        found[evaluations] = {
            **share(right(images, labels[other])),
            "frechet": distance(params, pixels[half], images),
            "seconds_of_64": {"fastest": min(seconds), "median": float(np.median(seconds))},
        }
        shown[f"{evaluations}"] = images[one_each]
    stored = {
        "command": COMMAND,
        "training": {"steps": run.step, "seconds": json.loads((folder / "result.json").read_text())["wall_seconds"]},
        "number": NUMBER,
        "real": {
            "held_out": share(right(pixels[~seen], labels[~seen])) | {"images": int((~seen).sum())},
            "halves": distance(params, pixels[half], pixels[other]),
            "halves_by_number": {
                number: {"mean": float(np.mean(each)), "deviation": float(np.std(each, ddof=1))}
                for number, each in bias.items()
            },
        },
        "drawn": found,
    }
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
    picture(stored, shown).savefig(FIGURE, dpi=110)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
