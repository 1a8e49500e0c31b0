"""How well a run tells which image belongs to a caption, as one JSON object."""

import pathlib

from mdlm_jax.evaluation.classification import DIRECTIONS
from mdlm_jax.evaluation.retrieval import retrieval, retrieval_nats
from mdlm_jax.runs.evaluation_options import check_retrieve
from mdlm_jax.runs.held_out import open_held_out
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.say import doing


def retrieve_run(folder: pathlib.Path, choices: int, *, draws: int | None = None, sequences: int | None = None) -> dict:
    """Accuracy of finding the image of a caption among `choices`, and the caption of an image.

    All pairs of a group have the same noise, and two calls give the same numbers.

    Args:
        folder: The run's folder.
        choices: Held-out rows of a group.
        draws: Noise draws for each pair, an even number; None for the run's `eval.draws`.
        sequences: Held-out rows; None for the run's `eval.sequences`, at most all.

    Raises:
        UserError: There is no run of `unified`, or a number is out of range.
    """
    run = open_run(folder)
    config, layout = run.config, run.layout
    check_retrieve(config, folder, choices, draws)
    draws = config.eval.draws if draws is None else draws
    held_out = open_held_out(run, folder, sequences)
    rows, found = held_out.rows.tokens, {}
    with doing("retrieving"):
        for task in DIRECTIONS:
            nats = retrieval_nats(
                run.model,
                run.objective,
                run.params,
                run.objective_params,
                rows,
                choices,
                task,
                layout.text_vocab,
                layout.text_length,
                draws=draws,
                batch_size=config.eval.batch_size,
                chunk=config.train.loss_chunk,
            )
            both = retrieval(nats, rows, layout.text_length)
            found[task] = {name: one._asdict() for name, one in both._asdict().items()}
    return {
        "run": folder.name,
        "step": run.step,
        "draws": draws,
        "choices": choices,
        "data": held_out.described,
        "retrieval": found,
    }
