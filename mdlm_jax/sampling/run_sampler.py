"""What a trained run gives to its samplers, and the sampler that a user chose for it."""

from collections.abc import Mapping
from typing import Any

from mdlm_jax.errors import UserError
from mdlm_jax.objectives.predictions import chain_steps, mask_schedule, process_of
from mdlm_jax.runs.restore import Run
from mdlm_jax.sampling.base import Sampler, Trained
from mdlm_jax.sampling.samplers import SAMPLERS, in_blocks, samplers_for, serves
from mdlm_jax.sampling.text import build_sampler, parse, split_name


def trained_of(run: Run) -> Trained:
    """What the training of a run fixed.

    Raises:
        UserError: The run reads images before their text, which no sampler does.
    """
    config, objective = run.config, run.objective
    if objective.parts and config.objective.name == "ar" and config.objective.order == "image_first":
        raise UserError("objective.order is 'image_first': a run of ar is sampled text first; accepted: another order")
    blocks = config.objective.block_size
    return Trained(
        schedule=mask_schedule(process_of(objective, run.objective_params)),
        parameterization=objective.parameterization,
        objective_params=run.objective_params,
        reads_start=not (run.shift or (config.objective.name == "ar" and config.data.extra_token)),
        block_size=blocks,
        shift=run.shift or (bool(blocks) and config.objective.block_shift),
        suppress=run.suppress,
        num_steps=chain_steps(objective),
        shuffled_share=config.objective.shuffled_share,
        text_length=run.layout.text_length if run.layout else 0,
    )


def usual_samplers(run: Run) -> tuple[str, ...]:
    """The samplers that serve the run, the usual one first."""
    names = samplers_for(run.objective, run.objective_params)
    return in_blocks(names) if run.config.objective.block_size else names


def sampler_of(run: Run, text: str | None = None, values: Mapping[str, Any] | None = None) -> tuple[str, Sampler]:
    """The name and the config of a sampler for a run.

    Args:
        run: A trained run.
        text: A name, 'NAME:FIELD=VALUE,..' or 'FILE.py:FUNCTION[:FIELD=VALUE,..]'. Default: the run's usual sampler.
        values: More fields.

    Raises:
        UserError: The text names no sampler, or one that the run's objective does not train.
    """
    accepted = usual_samplers(run)
    name = split_name(text)[0] if text else accepted[0]
    found = parse(text) if text else {}
    for field in found.keys() & (values or {}).keys():
        raise UserError(f"{field} is there twice, in {text!r} and by itself; accepted: once")
    sampler = build_sampler(name, found | dict(values or {}))
    if not serves(sampler, run.objective, run.objective_params) or (name in SAMPLERS and name not in accepted):
        raise UserError(
            f"sampler {name!r} needs what objective {run.config.objective.name} does not train; "
            f"accepted: {', '.join(accepted)}"
        )
    return name, sampler


def length_of(run: Run, length: int | None) -> int:
    """Tokens of a row. Raises UserError beyond those of a row in training."""
    context = run.config.data.sequence_length
    if length is not None and not 1 <= length <= context:
        raise UserError(f"length {length}: accepted is 1 to {context}, the tokens of a row in training")
    return length or context
