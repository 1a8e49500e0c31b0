"""The likelihood of text under a trained run, or its bound, as one JSON object."""

import pathlib

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.likelihood import evaluate
from mdlm_jax.runs.held_out import OWN_DATA, DataOptions, open_held_out, open_text
from mdlm_jax.runs.restore import open_run


def evaluate_run(
    folder: pathlib.Path,
    *,
    draws: int | None,
    sequences: int | None,
    data: DataOptions = OWN_DATA,
    path: str | None = None,
) -> dict:
    """Nats per token with errors, bits per byte and perplexity of the newest checkpoint.

    The noise of each sequence is fixed, so two calls give the same number.

    Args:
        folder: The run's folder.
        draws: Views of each sequence; None for the run's own number.
        sequences: Held-out sequences; None for the run's own number.
        data: Another corpus, or the run's own where it lies now.
        path: Text files to evaluate it on from beginning to end, instead of held-out rows of a corpus. Of `data` only
            the field and the length then count.

    Raises:
        UserError: There is no run, or no corpus to evaluate it on.
    """
    run = open_run(folder, padded=path is not None)
    draws = run.config.eval.draws if draws is None else draws
    if draws < 2:
        raise UserError(f"--draws={draws}; accepted: 2 or more, which give an error")
    if path is not None:
        held_out = open_text(run, path, data.field, data.sequence_length)
    else:
        held_out = open_held_out(run, folder, sequences, data)
    found = evaluate(
        run.model,
        run.objective,
        run.params,
        run.objective_params,
        held_out.rows,
        draws=draws,
        batch_size=run.config.eval.batch_size,
        chunk=run.config.train.loss_chunk,
    )
    return {
        "run": folder.name,
        "step": run.step,
        "objective": run.config.objective.name,
        **found._asdict(),
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte(held_out.bytes_per_token),
        "data": held_out.described,
    }
