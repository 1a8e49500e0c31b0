"""Extending a run beyond its planned length. The user requests it and chooses the schedule of the learning rate."""

import json
import pathlib
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Build, plan, warmup_steps
from mdlm_jax.config import differing_keys, from_json, to_json
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.records import read_records
from mdlm_jax.runs.saved import EXTENSIONS, LENGTH
from mdlm_jax.training.optimizer import hyperparameters

SCHEDULES = ("hold", "replan")


class Extension(NamedTuple):
    """One extension, as extensions.json has it."""

    steps_before: int
    steps: int
    schedule: str  # hold: the last learning rate stays; replan: the schedule of a run of the new length
    schedule_steps: int  # steps that the learning rate's schedule is planned for


def extend(config: ConfigDict, folder: pathlib.Path, schedule: str) -> None:
    """Extends the run in `folder` to the length that `config` has. Its checkpoints stay.

    Args:
        config: The run's config with another `steps` or `budget`.
        folder: The run's folder.
        schedule: What the learning rate does, a value of SCHEDULES.

    Raises:
        UserError: The config differs in more than its length or is not longer, or the schedule is unknown.
    """
    if schedule not in SCHEDULES:
        raise UserError(f"--extend={schedule}; accepted: hold (the last learning rate) or replan (the longer schedule)")
    before = from_json(folder / "config.json")
    if others := [line for line in differing_keys(before, config, paths=False) if line.partition(":")[0] not in LENGTH]:
        raise UserError(f"--extend changes {'; '.join(others)}; accepted: steps or budget alone")
    steps_before, steps = plan(before).steps, plan(config).steps
    if steps <= steps_before:
        raise UserError(f"--extend: {steps:,} steps; accepted: more than the {steps_before:,} of {folder}")
    scheduled = schedule_steps(folder) or steps_before
    extension = Extension(steps_before, steps, schedule, scheduled if schedule == "hold" else steps)
    if jax.process_index() == 0:
        for name in LENGTH:
            before[name] = config[name]
        lines = [past._asdict() for past in (*read_extensions(folder), extension)]
        write_whole(folder / EXTENSIONS, json.dumps(lines, indent=1) + "\n")
        write_whole(folder / "config.json", to_json(before))


def read_extensions(folder: pathlib.Path) -> list[Extension]:
    """The extensions of a run so far, in order.

    Raises:
        UserError: The file is damaged.
    """
    return read_records(folder / EXTENSIONS, Extension, "the record of extensions")


def schedule_steps(folder: pathlib.Path) -> int | None:
    """The steps that an extended run's learning rate is planned for; None for a run that was not extended."""
    past = read_extensions(folder)
    return past[-1].schedule_steps if past else None


def with_schedule(config: ConfigDict, folder: pathlib.Path, built: Build) -> Build:
    """The build with the learning rate's schedule of the run's last extension; unchanged if there is none."""
    if (steps := schedule_steps(folder)) is None:
        return built
    numbers = hyperparameters(config.optim.lr, config.optim.weight_decay, warmup_steps(config, steps), steps)
    return built._replace(initial=(built.initial[0], numbers))
