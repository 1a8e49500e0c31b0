"""Samples of a trained run."""

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mdlm_jax.build_objective import DISCRETE_STEPS, schedule_of
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.sampling import Plan, sample, samplers_for
from mdlm_jax.sampling.render import render
from mdlm_jax.schedules import linear
from mdlm_jax.training.restore import open_run


def sample_run(
    folder: pathlib.Path,
    *,
    prompts: list[str],
    count: int = 1,
    length: int | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    **arguments: Any,
) -> Iterator[str]:
    """For each prompt `count` samples of the newest checkpoint, as text; an empty prompt is one.

    `length` counts tokens, the prompt's included, at most those that the run was trained on (the default). The samples
    of a prompt depend on `seed` and on no other prompt. `arguments` are further ones of the `Plan`. Raises UserError
    where there is no run, the run's objective cannot serve the sampler, or a prompt or the plan cannot be followed.
    """
    run = open_run(folder)
    config, context = run.config, run.config.data.sequence_length
    accepted = samplers_for(config.objective.name)
    if config.objective.block_size:
        raise UserError(
            f"objective.block_size={config.objective.block_size}: blocks have no sampler; accepted: runs without"
        )
    if sampler is not None and sampler not in accepted:
        raise UserError(
            f"sampler {sampler!r} asks what objective {config.objective.name} does not train; "
            f"accepted: {', '.join(accepted)}"
        )
    if length is not None and not 1 <= length <= context:
        raise UserError(f"length {length}: accepted is 1 to {context}, the tokens of a row in training")
    if count < 1:
        raise UserError(f"{count} samples: accepted is 1 or more")
    plan = Plan(
        sampler=sampler or accepted[0],
        length=length or context,
        steps=_steps(config, steps),
        schedule=schedule_of(config) if config.objective.name == "masked" else linear(),
        reads_start=not (config.objective.name == "ar" and config.data.extra_token),
        answer=run.built.objective.answer,
        phi=run.phi,
        **arguments,
    )
    tokenizer = run.built.data.tokenizer
    for prompt in prompts:
        given = np.tile(encode_prompt(prompt, tokenizer), (count, 1))
        tokens, trace = sample(jax.random.key(seed), run.built.model, run.params, given, plan)
        yield render(tokens, trace, tokenizer)


def _steps(config: ConfigDict, steps: int | None) -> int | None:
    """As many as are asked for. A chain of discrete time has its own number, and no other."""
    if config.objective.name != "d3pm":
        return steps
    trained = config.objective.num_steps or DISCRETE_STEPS
    if steps not in (None, trained):
        raise UserError(f"steps {steps}: d3pm has those of its training; accepted: {trained}")
    return trained


def encode_prompt(prompt: str, tokenizer: Tokenizer) -> np.ndarray:
    """Token ids. Raises UserError where the tokenizer cannot read the text (the states of a synthetic source)."""
    try:
        return np.asarray(tokenizer.encode(prompt), np.int32)
    except (ValueError, OverflowError) as error:
        raise UserError(f"prompt {prompt!r}: the run's tokenizer cannot read it ({error})") from error
