"""A run on captioned digits: nats, which of ten captions belongs to an image, and guided images read by a classifier.

    mdlm-jax train --config=unified_digits --run=runs/digits
    python experiments/digits.py runs/digits

The training takes minutes on two cores, and so does this. Writes experiments/results/unified_digits.json and
docs/images/digits.png.
"""

import json
import math
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from mdlm_jax.data.captioned import images_of  # noqa: E402
from mdlm_jax.data.digits import NAMES, load_digits  # noqa: E402
from mdlm_jax.runs.classify import classify_run  # noqa: E402
from mdlm_jax.runs.evaluate import evaluate_run  # noqa: E402
from mdlm_jax.runs.restore import Run, open_run  # noqa: E402
from mdlm_jax.sampling import FirstHitting, sample  # noqa: E402
from mdlm_jax.sampling.prompts import encode_prompt  # noqa: E402
from mdlm_jax.sampling.run_sampler import trained_of  # noqa: E402

COMMAND = "mdlm-jax train --config=unified_digits --run=runs/digits && python experiments/digits.py runs/digits"
WEIGHTS = (0.0, 1.0, 2.0, 4.0)
EACH = 30  # images of each digit and weight
SHOWN = 2  # of them, in the picture


def draw(run: Run, weight: float) -> np.ndarray:
    """EACH images of each digit, of captions 'a plain zero' to 'a plain nine': i32[10, EACH, 8, 8]."""
    prompts = np.stack([encode_prompt(f"a plain {name}", run.tokenizer) for name in NAMES])
    trained, length = trained_of(run), run.layout.length
    rows, _ = sample(
        jax.random.key(0),
        run.model,
        run.params,
        prompts.repeat(EACH, axis=0),
        FirstHitting(guidance=weight),
        length,
        trained,
    )
    return images_of(run.layout, np.asarray(rows)).reshape(10, EACH, 8, 8)


def read(images: np.ndarray) -> dict[str, float]:
    """How often logistic regression, fitted to the training images, reads the digit of the caption."""
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    seen = ~digits.held_out
    fitted = LogisticRegression(max_iter=5000).fit(digits.images[seen].reshape(-1, 64) / 16, digits.labels[seen])
    right = fitted.predict(images.reshape(-1, 64) / 16) == np.arange(10).repeat(EACH)
    return {"accuracy": float(right.mean()), "standard_error": float(right.std(ddof=1) / math.sqrt(right.size))}


def picture(drawn: dict[float, np.ndarray], path: pathlib.Path) -> None:
    """Real images of each digit, then drawn ones of each weight."""
    digits = load_digits()
    real = np.stack([digits.images[digits.held_out & (digits.labels == number)][:SHOWN] for number in range(10)])
    groups = {"held out": real} | {f"w = {weight:g}": images[:, :SHOWN] for weight, images in drawn.items()}
    figure = Figure(figsize=(7.2, 0.74 * len(groups) * SHOWN), layout="constrained")
    axes = figure.subplots(len(groups) * SHOWN, 10)
    for group, (name, images) in enumerate(groups.items()):
        for copy in range(SHOWN):
            for number in range(10):
                ax = axes[group * SHOWN + copy, number]
                ax.imshow(images[number, copy], cmap="gray", vmin=0, vmax=16)
                ax.set_xticks([])
                ax.set_yticks([])
                if group == copy == 0:
                    ax.set_title(NAMES[number], fontsize=9)
            axes[group * SHOWN, 0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=110)


def main(folder: pathlib.Path) -> None:
    run = open_run(folder)
    drawn = {weight: draw(run, weight) for weight in WEIGHTS}
    found = {
        "command": COMMAND,
        "training_seconds": json.loads((folder / "result.json").read_text())["wall_seconds"],
        **classify_run(folder),
        "evaluation": evaluate_run(folder, draws=None, sequences=None),
        "guided": {f"{weight:g}": read(images) for weight, images in drawn.items()},
        "guided_images": EACH * 10,
    }
    (root / "experiments" / "results" / "unified_digits.json").write_text(json.dumps(found, indent=1) + "\n")
    picture(drawn, root / "docs" / "images" / "digits.png")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
