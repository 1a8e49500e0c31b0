"""How well a run on captioned digits tells which of ten captions belongs to an image, as one JSON object."""

import pathlib

import jax
import numpy as np

from mdlm_jax.data.captioned import images_of
from mdlm_jax.data.digits import FIGURES, NAME_AT, SPELLED_NAMES, load_digits, ten_captions
from mdlm_jax.evaluation.classification import DIRECTIONS, caption_nats, classified, logistic_regression
from mdlm_jax.runs.evaluation_options import check_classify
from mdlm_jax.runs.held_out import open_held_out
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.say import doing


def classify_run(folder: pathlib.Path, *, draws: int | None = None, sequences: int | None = None) -> dict:
    """Accuracy by the likelihood of each of ten captions, and that of logistic regression on the same pixels.

    The captions of an image differ in the digit alone. The noise is the same for all of them, and two calls give the
    same numbers.

    Args:
        folder: The run's folder.
        draws: Noise draws for each caption, an even number; None for the run's `eval.draws`.
        sequences: Held-out images; None for the run's `eval.sequences`, at most all.

    Raises:
        UserError: There is no run on digits with the objective `unified`, or a number is out of range.
    """
    run = open_run(folder)
    config = run.config
    check_classify(config, folder, draws)
    draws = config.eval.draws if draws is None else draws
    layout, held_out = run.layout, open_held_out(run, folder, sequences)
    rows = held_out.rows.tokens
    text = rows[:, : layout.text_length]
    truth = (text[:, NAME_AT, None, None] == np.stack([SPELLED_NAMES, FIGURES])).any(axis=1).argmax(axis=1)
    options = {"draws": draws, "batch_size": config.eval.batch_size, "chunk": config.train.loss_chunk}
    found = {}
    with doing("classifying"):
        for task in DIRECTIONS:
            nats = caption_nats(
                run.model,
                run.objective,
                run.params,
                run.objective_params,
                rows,
                ten_captions(text),
                task,
                layout.text_vocab,
                **options,
            )
            found[task] = classified(nats, truth)._asdict()
        digits, scale = load_digits(layout.levels), layout.levels - 1
        seen = ~digits.held_out
        found["logistic_regression"] = logistic_regression(
            digits.images[seen].reshape(seen.sum(), -1) / scale,
            digits.labels[seen],
            images_of(layout, rows).reshape(len(rows), -1) / scale,
            truth,
        )._asdict()
    return {
        "run": folder.name,
        "step": run.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(run.params)),
        "draws": draws,
        "data": held_out.described,
        "classification": found,
    }
