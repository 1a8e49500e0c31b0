"""`launched.json` in a run's folder: the scheduler job that the run was last submitted as."""

import json
import pathlib
import time
from typing import NamedTuple

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.records import read_record

FILE_NAME = "launched.json"


class Launched(NamedTuple):
    """A submission of a run to a scheduler."""

    launcher: str  # slurm | submit
    job: str  # the scheduler's job id
    time: float  # time.time(), to read; nothing compares the clocks of two machines
    attempts: int = 0  # attempts before it


def write_launched(folder: pathlib.Path, launcher: str, job: str, attempts: int) -> None:
    """Records that the run in `folder` was submitted now, after this many attempts."""
    launched = Launched(launcher, job, time.time(), attempts)
    write_whole(folder / FILE_NAME, json.dumps(launched._asdict()) + "\n")


def read_launched(folder: pathlib.Path) -> Launched | None:
    """The last submission of a run; None if it was never submitted or the file cannot be read."""
    try:
        return read_record(folder / FILE_NAME, Launched, "a submission")
    except UserError:
        return None
