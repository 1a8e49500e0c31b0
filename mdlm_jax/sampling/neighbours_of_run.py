"""Whether a run draws copies of its training images, as one JSON object."""

import pathlib

import jax
import numpy as np

from mdlm_jax.data.captioned import images_of, open_captioned
from mdlm_jax.evaluation.neighbours import memorisation, nearest
from mdlm_jax.runs.evaluation_options import check_neighbours
from mdlm_jax.runs.held_out import open_held_out
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.say import doing
from mdlm_jax.sampling import sample
from mdlm_jax.sampling.run_sampler import sampler_of, trained_of
from mdlm_jax.sampling.text import errors_of

MOST_TRAINING = 50_000  # training rows that are searched, from the first on
AT_ONCE = 64  # images drawn together
PART = 1024  # training images in memory


def neighbours_of_run(folder: pathlib.Path, *, sequences: int | None = None, seed: int = 0) -> dict:
    """Draws an image for each held-out caption, and finds the nearest training image of each, and of the held-out ones.

    Args:
        folder: The run's folder.
        sequences: Held-out rows; None for the run's `eval.sequences`, at most all.
        seed: Of the sampler.

    Raises:
        UserError: There is no run of `unified`.
    """
    run = open_run(folder)
    check_neighbours(run.config, folder)
    layout, data = run.layout, run.config.data
    held_out = open_held_out(run, folder, sequences)
    rows = held_out.rows.tokens
    train = open_captioned(data.source, data.path, data.sequence_length).train
    searched = min(train.count, MOST_TRAINING)
    name, sampler = sampler_of(run)
    trained, drawn = trained_of(run), []
    with doing("drawing images"), errors_of(name):
        for number, first in enumerate(range(0, len(rows), AT_ONCE)):
            prompts = rows[first : first + AT_ONCE, : layout.text_length]
            key = jax.random.fold_in(jax.random.key(seed), number)
            tokens, _ = sample(key, run.model, run.params, prompts, sampler, layout.length, trained, None)
            drawn.append(np.asarray(tokens))
    scale = layout.levels - 1

    def pixels(tokens: np.ndarray) -> np.ndarray:
        return images_of(layout, tokens).reshape(len(tokens), -1).astype(np.float32) / scale

    with doing("finding neighbours"):
        parts = (np.arange(first, min(first + PART, searched)) for first in range(0, searched, PART))
        both = pixels(np.concatenate([*drawn, rows]))  # one search, so that training images are decoded once
        near, usual = np.split(nearest(both, (pixels(train.read(part)) for part in parts)).distance, [len(rows)])
        found = memorisation(near, usual)
    return {
        "run": folder.name,
        "step": run.step,
        "sampler": name,
        "seed": seed,
        "training_images": searched,
        "data": held_out.described,
        "neighbours": found._asdict(),
    }
