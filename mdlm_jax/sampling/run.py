"""Samples of a trained run."""

import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict
from rich.console import Console

from mdlm_jax.build.described import DISCRETE_STEPS, schedule_of
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.sampling import Plan, sample
from mdlm_jax.sampling.samplers import TAKEN_BY, samplers_for
from mdlm_jax.sampling.show.live import live_view
from mdlm_jax.sampling.show.render import render
from mdlm_jax.sampling.show.replay import replay, write_replay
from mdlm_jax.schedules import linear


def sample_run(
    folder: pathlib.Path,
    *,
    prompts: list[str],
    count: int = 1,
    seed: int = 0,
    out: pathlib.Path | None = None,
    **arguments: Any,
) -> Iterator[str]:
    """For each prompt `count` samples of the newest checkpoint, as text; an empty prompt is one.

    The samples of a prompt depend on `seed` and on no other prompt. `arguments` are those of `plan_of`. On a terminal
    the text is seen as it comes about; in the folder `out` it can be seen again (a folder inside for each of several
    prompts). Raises UserError where there is no run, or a prompt or the plan cannot be followed.
    """
    run = open_run(folder)
    plan, tokenizer = plan_of(run, **arguments), run.tokenizer
    mask_id = run.vocab_size
    if count < 1:
        raise UserError(f"{count} samples: accepted is 1 or more")
    if out:
        claim_output(out)
    watchers: list[Callable] = []
    watch = _telling(watchers) if out or Console().is_terminal else None
    for number, prompt in enumerate(prompts):
        given, frames = np.tile(encode_prompt(prompt, tokenizer), (count, 1)), []
        with live_view(tokenizer, mask_id) as view:
            watchers[:] = [view, frames.append] if out else [view]
            tokens, trace = sample(jax.random.key(seed), run.model, run.params, given, plan, watch)
            jax.effects_barrier()
        if out:
            heading = {"run": folder.name, "prompt": prompt, "seed": str(seed)} | told(plan)
            played = replay(frames, np.asarray(tokens), trace, tokenizer, mask_id, heading)
            write_replay(out / str(number) if len(prompts) > 1 else out, played)
        yield render(tokens, trace, tokenizer)


def claim_output(folder: pathlib.Path) -> None:
    """Makes a folder for what will be drawn, before it is. Raises UserError where it can not be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out={folder}: can not be written ({error.strerror}); accepted: a folder") from error


def _telling(watchers: list[Callable]) -> Callable[[Int[Array, "B L"]], None]:
    """One function for all prompts, so that what is compiled serves them all."""

    def watch(tokens):
        tokens = np.array(tokens)
        for watcher in watchers:
            watcher(tokens)

    return watch


def told(plan: Plan) -> dict[str, str]:
    """What the plan says beyond the defaults, for people."""
    skipped = ("parameterization", "objective_params", "schedule", "reads_start", "bucket")
    said = {name: value for name, value in plan._asdict().items() if name not in skipped}
    return {name: str(value) for name, value in said.items() if value != Plan._field_defaults.get(name)}


def plan_of(
    run: Run, sampler: str | None = None, length: int | None = None, steps: int | None = None, **arguments: Any
) -> Plan:
    """The plan by which a run is sampled: what is asked for, and what its training says.

    `length` counts tokens, the prompt's included, at most those that the run was trained on (the default). Raises
    UserError where the run's objective cannot serve the sampler, which is named with those that it can.
    """
    config, context = run.config, run.config.data.sequence_length
    accepted, blocks = samplers_for(config.objective.name), config.objective.block_size
    if blocks:
        accepted = tuple(name for name in accepted if name in TAKEN_BY["trained_blocks"])
    if sampler is not None and sampler not in accepted:
        raise UserError(
            f"sampler {sampler!r} asks what objective {config.objective.name} does not train; "
            f"accepted: {', '.join(accepted)}"
        )
    if length is not None and not 1 <= length <= context:
        raise UserError(f"length {length}: accepted is 1 to {context}, the tokens of a row in training")
    return Plan(
        sampler=sampler or accepted[0],
        length=length or context,
        steps=_steps(config, steps, (length or context) // blocks if blocks else 1),
        schedule=schedule_of(config) if config.objective.name == "masked" else linear(),
        reads_start=not (config.objective.name == "ar" and config.data.extra_token),
        parameterization=run.objective.parameterization,
        objective_params=run.objective_params,
        trained_blocks=blocks,
        shift=bool(blocks) and config.objective.block_shift,
        **arguments,
    )


def _steps(config: ConfigDict, steps: int | None, num_blocks: int) -> int | None:
    """As many as are asked for. A chain of discrete time has its own number in every block, and no other."""
    if config.objective.name != "d3pm":
        return steps
    trained = num_blocks * (config.objective.num_steps or DISCRETE_STEPS)
    if steps not in (None, trained):
        raise UserError(f"steps {steps}: d3pm has those of its training; accepted: {trained}")
    return trained


def encode_prompt(prompt: str, tokenizer: Tokenizer) -> np.ndarray:
    """Token ids. Raises UserError where the tokenizer cannot read the text (the states of a synthetic source)."""
    try:
        return np.asarray(tokenizer.encode(prompt), np.int32)
    except (ValueError, OverflowError) as error:
        raise UserError(f"prompt {prompt!r}: the run's tokenizer cannot read it ({error})") from error
