"""Rewinding from a bad loss and skipping the data around it (PaLM, arXiv 2204.02311, section 5.1).

rewinds.json in the run's folder records the skipped data. The data of a step is a function of that file and the step,
so a run that is killed in between resumes as if it had not been killed.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mdlm_jax.files import write_whole
from mdlm_jax.runs import checkpoint
from mdlm_jax.runs.records import read_records
from mdlm_jax.runs.saved import LAST_SAVED, saved_steps
from mdlm_jax.runs.say import say

FILE_NAME = "rewinds.json"


class BadLoss(Exception):
    """A spike, or a loss or gradient that is not finite."""

    def __init__(self, step: int, cause: str):
        super().__init__(f"step {step}: {cause}")
        self.step = step


class RunFailed(Exception):
    """Training cannot continue. The message has the step, the reason and the checkpoint that is left."""


def cause_of(failure: BadLoss | RunFailed, folder: pathlib.Path) -> str:
    """The cause that the result of a failed run reports."""
    if isinstance(failure, RunFailed):
        return str(failure)
    saved = saved_steps(folder / "checkpoints")
    return f"{failure}; last good checkpoint: {saved[-1] if saved else 'none'}"


class Rewind(NamedTuple):
    """One rewind, as rewinds.json stores it."""

    step: int  # the run went back to the state after this step
    batch: int  # the number of the batch with which it continued
    cause: str


def read_rewinds(folder: pathlib.Path) -> list[Rewind]:
    """The rewinds of a run so far, in order.

    Raises:
        UserError: The file cannot be read.
    """
    return read_records(folder / FILE_NAME, Rewind, "the record of rewinds")


def write_rewinds(folder: pathlib.Path, rewinds: Sequence[Rewind]) -> None:
    """Writes the rewinds of a run into its folder."""
    write_whole(folder / FILE_NAME, json.dumps([past._asdict() for past in rewinds], indent=1) + "\n")


def batch_number(rewinds: Sequence[Rewind], step: int) -> int:
    """The number of the batch that follows `step` steps. A later rewind overrides an earlier one."""
    return step + next((past.batch - past.step for past in reversed(rewinds) if past.step <= step), 0)


def batches(from_batch: Callable[[int], Iterator[Any]], rewinds: Sequence[Rewind], start: int) -> Iterator[Any]:
    """The batches of the steps after `start`.

    Args:
        from_batch: Gives the data from a batch number on.
        rewinds: The rewinds of the run.
        start: Steps taken so far.
    """
    turns = sorted({past.step for past in rewinds if past.step > start})
    for first, end in pairwise([start, *turns]):
        yield from islice(from_batch(batch_number(rewinds, first)), end - first)
    yield from from_batch(batch_number(rewinds, max([start, *turns])))


def num_kept(config: ConfigDict) -> int:
    """How many checkpoints at multiples of `checkpoint_every` must be kept for `go_back` to find the one it needs."""
    every = config.train.checkpoint_every
    return 2 + config.optim.rewind_steps // every if every and config.optim.on_nonfinite == "rewind" else 0


def go_back(
    config: ConfigDict,
    folder: pathlib.Path,
    rewinds: Sequence[Rewind],
    bad: BadLoss,
    steps: int,
    max_steps: int | None,
) -> list[Rewind]:
    """Rewinds a run by at least `rewind_steps`, and skips all data up to the bad step.

    The checkpoint depends only on the bad step, so a run that is killed and meets it again does the same.

    Args:
        config: The run's config.
        folder: The run's; later checkpoints are removed from it.
        rewinds: The rewinds so far.
        bad: The bad step.
        steps: Steps of the run.
        max_steps: Steps that the data allows; None: no limit.

    Returns:
        The rewinds, with the new one.

    Raises:
        RunFailed: The config requires a stop or allows no more rewinds, or no other data is left.
    """
    optim, every, checkpoints = config.optim, config.train.checkpoint_every, folder / "checkpoints"
    if optim.on_nonfinite == "stop":
        raise RunFailed(cause_of(bad, folder))
    if len(rewinds) >= optim.max_rewinds:
        raise RunFailed(f"{bad}; config.optim.max_rewinds = {optim.max_rewinds} rewinds did not help")
    last = max(bad.step - optim.rewind_steps, 0)
    step = last // every * every if every else 0
    batch = batch_number(rewinds, bad.step - 1) + 1
    if max_steps is not None and batch + steps - step > max_steps:
        raise RunFailed(f"{bad}; config.data.epochs = {config.data.epochs} leaves no more data to train on")
    rewinds = [*rewinds, Rewind(step, batch, str(bad))]
    if jax.process_index() == 0:
        if not step:  # the run has no checkpoint now, and may begin again
            (folder / LAST_SAVED).unlink(missing_ok=True)
        # in this order: without the record, what is left of the run meets the same loss again
        checkpoint.drop_after(checkpoints, step)
        write_rewinds(folder, rewinds)
        say(f"{bad}; going back to step {step:,}, on with batch {batch:,} of the data")
    multihost_utils.sync_global_devices("gone back")
    return rewinds
