"""What a scheduler was given: `launched.json` in a run's folder, which whoever looks at the sweep can ask about."""

import json
import pathlib
import time
from typing import NamedTuple

from mdlm_jax.files import write_whole

FILE_NAME = "launched.json"


class Launched(NamedTuple):
    launcher: str  # slurm | submit
    job: str  # as the scheduler calls it
    time: float  # time.time()


def write_launched(folder: pathlib.Path, launcher: str, job: str) -> None:
    launched = Launched(launcher, job, time.time())
    write_whole(folder / FILE_NAME, json.dumps(launched._asdict()) + "\n")


def read_launched(folder: pathlib.Path) -> Launched | None:
    """The last time that a run was given to a scheduler; None where it was not, or where that can not be read."""
    try:
        return Launched(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
