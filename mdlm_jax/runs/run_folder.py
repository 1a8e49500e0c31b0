"""The folder of a run: config.json is written at the start, result.json at the end."""

import pathlib
import platform

import jax
import numpy as np
from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.build.objective import objective_label
from mdlm_jax.config import hash_of_stored, to_json
from mdlm_jax.costs.flops import num_parameters, optimizer_flops
from mdlm_jax.data.pipeline import Data
from mdlm_jax.evaluation.likelihood import Likelihood
from mdlm_jax.files import write_whole
from mdlm_jax.runs.lineage import SCRATCH, read_lineage, totals
from mdlm_jax.runs.result import SCHEMA_VERSION, Result
from mdlm_jax.runs.same_run import cannot_be_written, check_folder


def claim_folder(config: ConfigDict, folder: pathlib.Path) -> None:
    """Makes the run's folder and writes config.json.

    Raises:
        UserError: The folder holds another run, or cannot be written.
    """
    if jax.process_index() > 0 or check_folder(config, folder):
        return
    path = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json(config))
    except OSError as error:
        raise cannot_be_written(folder, error) from error


def bytes_per_token(data: Data) -> float | None:
    """UTF-8 bytes of the held-out text over its tokens; None for the states of a synthetic source."""
    return data.bytes_per_token if data.tokenizer.separator >= 0 else None


def describe(
    config: ConfigDict,
    built: Build,
    folder: pathlib.Path,
    found: Likelihood | None,
    wall_seconds: float,
    compile_seconds: float,
    cause: str,
) -> Result:
    """The result of a run.

    Args:
        config: The run's config.
        built: Its build.
        folder: The run's folder.
        found: The validation at the end; None if the run failed before it.
        wall_seconds: Wall time of the process that finished the run.
        compile_seconds: Time to compile the train step.
        cause: Why the run failed; empty if it is done.
    """
    parameters, plan = num_parameters(built.plan.architecture), built.plan
    lineage = read_lineage(folder) or SCRATCH
    tokens, flops = totals(lineage, plan, plan.steps)
    reported = built.objective.evaluate or built.objective
    own_steps = plan.steps - (lineage.birth_step if lineage.kind == "branch" else 0)
    of_step = optimizer_flops(plan.architecture, config.optim.name, built.options.frozen)
    return Result(
        schema_version=SCHEMA_VERSION,
        run_id=folder.name,
        objective=objective_label(config),
        size=config.model.size or f"{config.model.layers}x{config.model.width}",
        config_hash=hash_of_stored(folder / "config.json"),  # of how it was first executed
        seed=config.seed,
        parameters_non_embedding=parameters.non_embedding,
        parameters_total=parameters.total,
        tokens=tokens,
        tokens_per_step=plan.tokens_per_step,
        steps=plan.steps,
        unique_tokens=built.data.unique_tokens,
        epochs=plan.steps * plan.tokens_per_step / built.data.unique_tokens,
        flops=flops,
        budget=float(config.budget),
        budget_counter=config.budget_counter,
        loss=found and found.nats_per_token,
        loss_standard_error=found and found.standard_error,
        loss_monte_carlo_error=found and found.monte_carlo_error,
        draws=found.draws if found else config.eval.draws,
        estimator=found.estimator if found else "",
        bound=reported.bound,
        bits_per_byte=found and found.bits_per_byte(bytes_per_token(built.data)),
        learning_rate=float(config.optim.lr),
        batch_size=config.train.batch_size,
        wall_seconds=wall_seconds,
        compile_seconds=compile_seconds,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        versions={"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()},
        status="failed" if cause else "done",
        cause=cause,
        parent=lineage.parent,
        kinship=lineage.kind,
        birth_step=lineage.birth_step,
        inherited_tokens=lineage.inherited_tokens,
        inherited_flops=lineage.inherited_flops,
        optimizer_flops=float(own_steps * of_step),
    )
