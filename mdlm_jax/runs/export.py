"""A run that fine-tuned a public model, written as that kind of model again."""

import functools
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from mdlm_jax.build.network import lora_of
from mdlm_jax.config import to_json
from mdlm_jax.configs.base import KEYS
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.models.lora import merged
from mdlm_jax.runs.inputs import read_inputs
from mdlm_jax.runs.lineage import SCRATCH, read_lineage, totals
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.runs.result import FILE_NAME, read_result
from mdlm_jax.weights.load import Weights
from mdlm_jax.weights.save import save_weights
from mdlm_jax.weights.save_peft import save_adapters
from mdlm_jax.weights.source import Source, holds_weights, open_source


def export_run(folder: pathlib.Path, out: pathlib.Path, *, dtype: str = "", adapters: bool = False) -> Source:
    """Writes the newest checkpoint of a run as a Hugging Face folder, with adapters added to their matrices.

    Args:
        folder: The run's.
        out: A new or empty folder.
        dtype: As in `save_weights`.
        adapters: Write the adapters alone, in the format of peft.

    Returns:
        The public model that the run started from, with the run's chat template.

    Raises:
        UserError: The run did not start from a public model, that model is gone, or a folder of its kind cannot say
            what the run changed: another objective or tokenizer, or more than adapters.
    """
    run = open_run(folder)
    start = pathlib.Path(run.config.start_from)
    if not run.config.start_from or not holds_weights(start):
        raise UserError(f"{folder}: started from {str(start)!r}; accepted: a run of train --from MODEL, and its model")
    source = open_source(start)
    _check_objective(folder, run, source)
    if run.tokenizer.fingerprint != open_tokenizer(start).fingerprint:
        raise UserError(f"{folder}: trained with another tokenizer than {start}; accepted: a run with the model's own")
    source = source._replace(files={**source.files, **run.tokenizer.files})  # the template may be the run's own
    lora = lora_of(run.config)
    if adapters:
        if lora is None or run.config.optim.freeze:
            raise UserError(f"{folder}: accepted for --adapters: a run with model.lora_rank and without optim.freeze")
        save_adapters(out, source, lora, run.params["lora"]["a"], run.params["lora"]["b"])
        return source
    params = run.params if lora is None else merged(run.params, lora)
    save_weights(out, Weights(run.model, params, source), dtype=dtype, training=_training(folder, run))
    return source


def _check_objective(folder: pathlib.Path, run: Run, source: Source) -> None:
    """Raises UserError where the network is not read as a folder of this kind says."""
    described, trained = source.description, run.config.objective
    read = {
        "name": described.objective,
        "block_size": described.block_size,
        "shift": described.shift,
        "block_shift": False,
        **described.keys,
    }
    other = [key for key, value in read.items() if trained[key] != value]
    if other:
        said = ", ".join(f"objective.{key}={trained[key]}" for key in other)
        accepted = ", ".join(f"{key}={read[key]}" for key in other)
        raise UserError(f"{folder}: trained with {said}; accepted: {accepted}, as a folder of {source.kind} says")


def _training(folder: pathlib.Path, run: Run) -> dict[str, Any]:
    """What the written folder says of the run."""
    inputs, result, config = read_inputs(folder), None, _without_folders(run.config)
    tokens, flops = totals(read_lineage(folder) or SCRATCH, run.plan, run.step)
    if (folder / FILE_NAME).exists():
        found = read_result(folder / FILE_NAME)
        result = found._asdict() if found.status == "done" and found.steps == run.step else None
    return {
        "run": folder.resolve().name,
        "model": pathlib.Path(run.config.start_from).name,
        "step": run.step,
        "tokens": tokens,
        "flops": flops,
        "parameterization": config["objective"],
        "tokenizer": run.tokenizer.fingerprint,
        "data": inputs.corpus if inputs else None,
        "evaluation": result,
        "config": config,
    }


def _without_folders(config: ConfigDict) -> dict[str, Any]:
    """The config with base names for paths: a folder that is published says nothing of the machine's folders."""
    found = json.loads(to_json(config))
    names = [name for name, key in KEYS.items() if key.path or key.plugin]
    for name in ("start_from", "branch_from", *names):
        *parents, leaf = name.split(".")
        node = functools.reduce(dict.__getitem__, parents, found)
        node[leaf] = ",".join(pathlib.PurePath(part.strip()).name for part in node[leaf].split(","))
    return found
