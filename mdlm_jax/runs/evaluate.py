"""The bound of a trained run, as one JSON object."""

import pathlib

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.likelihood import evaluate
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.run_folder import bits_per_byte


def evaluate_run(folder: pathlib.Path, *, draws: int | None, sequences: int | None) -> dict:
    """Nats per token with errors, bits per byte and perplexity of the newest checkpoint on its held-out text.

    The noise of each sequence is fixed, so two calls give the same number. Raises UserError where there is no run.
    """
    run = open_run(folder, sequences)
    draws = run.config.eval.draws if draws is None else draws
    if draws < 2:
        raise UserError(f"--draws={draws}; accepted: 2 or more, which give an error")
    found = evaluate(
        run.built.model,
        run.built.objective,
        run.params,
        run.objective_params,
        run.built.data.validation,
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
        "bits_per_byte": bits_per_byte(found, run.built),
    }
