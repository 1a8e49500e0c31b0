"""The origin of a run: from scratch, a branch of another run's checkpoint, or another run's weights.

A branch continues the whole state: step, weights, optimiser, noise and position in the data. A run that starts from
weights takes only those, and begins at step 0 with a new optimiser. Both inherit the tokens and FLOPs of their parent.
"""

import json
import pathlib
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Plan, plan
from mdlm_jax.configs.checks import refuse
from mdlm_jax.files import write_whole
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.origin import LINEAGE as FILE_NAME
from mdlm_jax.runs.origin import named_point
from mdlm_jax.runs.records import read_record
from mdlm_jax.runs.rewind import read_rewinds, write_rewinds
from mdlm_jax.runs.saved import check_config, newest_whole, saved_steps
from mdlm_jax.weights.source import holds_weights


class Lineage(NamedTuple):
    """A run's parent and what the run inherits, as lineage.json stores it."""

    parent: str  # id of the parent, or the folder of a public model; empty for a run from scratch
    kind: str  # branch | weights; empty for a run from scratch
    birth_step: int  # the parent's step at which this run began
    inherited_tokens: int  # tokens that the parent was trained on until then
    inherited_flops: dict[str, float]  # the parent's FLOPs until then, by counter


SCRATCH = Lineage("", "", 0, 0, {})


def branch_point(config: ConfigDict, folder: pathlib.Path) -> tuple[pathlib.Path, int]:
    """`named_point`, of a checkpoint that is there.

    Raises:
        UserError: The value is no FOLDER@STEP, or there is no such checkpoint.
    """
    parent, step = named_point(config.branch_from, folder)
    steps = saved_steps(parent / "checkpoints")
    if step not in steps:
        refuse(
            "branch_from", config.branch_from, f"one of the checkpoints of steps {steps}" if steps else "another run"
        )
    return parent, step


def check_parent(config: ConfigDict, folder: pathlib.Path) -> None:
    """Checks that the parent of a run exists, unless the run has stored its lineage.

    Raises:
        UserError: The parent or its checkpoint is missing, its config was edited, or the run has two parents.
    """
    if read_lineage(folder) is None:
        _parent(config, folder)


def _parent(config: ConfigDict, folder: pathlib.Path) -> tuple[pathlib.Path, int] | None:
    """(folder, step) of the checkpoint that a run begins with, step 0 of a public model; None for one from scratch."""
    if config.branch_from and config.start_from:
        refuse("start_from", config.start_from, "nothing, where branch_from is given: a branch has its weights")
    if config.branch_from:
        parent, step = branch_point(config, folder)
        check_config(parent, step)
        return parent, step
    if not config.start_from:
        return None
    parent = pathlib.Path(config.start_from)
    if holds_weights(parent):
        return parent, 0
    config_of_run(parent)
    if (step := newest_whole(parent / "checkpoints")[0]) is None:
        refuse("start_from", config.start_from, "a run that has saved a checkpoint")
    check_config(parent, step)
    return parent, step


def keep_lineage(config: ConfigDict, folder: pathlib.Path) -> Lineage:
    """The lineage of a run. The first start writes it into the run's folder, so that the parent may be deleted later.

    Raises:
        UserError: As `check_parent` does.
    """
    if (kept := read_lineage(folder)) is not None:
        return kept
    if (found := _parent(config, folder)) is None:
        return SCRATCH
    parent, step = found
    # what a public model was trained on is not known
    inherited = (0, {}) if holds_weights(parent) else _spent(parent, step)
    lineage = Lineage(parent.resolve().name, "branch" if config.branch_from else "weights", step, *inherited)
    if jax.process_index() == 0:
        if config.branch_from:  # the data of a step is a function of the rewinds before it
            write_rewinds(folder, [past for past in read_rewinds(parent) if past.step <= step])
        write_whole(folder / FILE_NAME, json.dumps(lineage._asdict(), indent=1) + "\n")
    return lineage


def read_lineage(folder: pathlib.Path) -> Lineage | None:
    """The lineage in the folder of a run; None for a run from scratch.

    Raises:
        UserError: The file is damaged.
    """
    return read_record(folder / FILE_NAME, Lineage, "the lineage of a run")


def totals(lineage: Lineage, planned: Plan, steps: int) -> tuple[int, dict[str, float]]:
    """(tokens, FLOPs by counter) of a run after `steps`, those of its ancestors included."""
    own = steps - (lineage.birth_step if lineage.kind == "branch" else 0)
    flops = {
        name: own * float(count) + lineage.inherited_flops.get(name, 0.0)
        for name, count in planned.flops_per_step._asdict().items()
    }
    return lineage.inherited_tokens + own * planned.tokens_per_step, flops


def _spent(parent: pathlib.Path, step: int) -> tuple[int, dict[str, float]]:
    return totals(read_lineage(parent) or SCRATCH, plan(config_of_run(parent)), step)
