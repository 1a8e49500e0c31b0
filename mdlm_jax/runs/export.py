"""A run that fine-tuned a public model, written as that kind of model again."""

import pathlib

from mdlm_jax.build.network import lora_of
from mdlm_jax.errors import UserError
from mdlm_jax.models.lora import merged
from mdlm_jax.runs.restore import open_run
from mdlm_jax.weights.load import Weights
from mdlm_jax.weights.save import save_weights
from mdlm_jax.weights.source import Source, holds_weights, open_source


def export_run(folder: pathlib.Path, out: pathlib.Path, *, dtype: str = "") -> Source:
    """Writes the newest checkpoint of a run as a Hugging Face folder, with adapters added to their matrices.

    Args:
        folder: The run's.
        out: A new or empty folder.
        dtype: As in `save_weights`.

    Returns:
        The public model that the run started from.

    Raises:
        UserError: The run did not start from a public model, that model is gone, or the run trained another objective.
    """
    run = open_run(folder)
    start = pathlib.Path(run.config.start_from)
    if not run.config.start_from or not holds_weights(start):
        raise UserError(f"{folder}: started from {str(start)!r}; accepted: a run of train --from MODEL, and its model")
    source = open_source(start)
    trained = run.config.objective.name, run.config.objective.block_size
    described = source.description.objective, source.description.block_size
    if trained != described:
        raise UserError(
            f"{folder}: trained {trained[0]} in blocks of {trained[1]}; "
            f"accepted: {described[0]} in blocks of {described[1]}, as a folder of {source.config['model_type']} says"
        )
    lora = lora_of(run.config)
    params = run.params if lora is None else merged(run.params, lora)
    save_weights(out, Weights(run.model, params, source), dtype=dtype)
    return source
