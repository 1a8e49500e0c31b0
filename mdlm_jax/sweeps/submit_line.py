"""Submission to any scheduler by a shell line, in which {command} stands for the command that trains a run."""

import pathlib
import shlex
import string
import subprocess
import uuid
from collections.abc import Sequence

from mdlm_jax.errors import UserError
from mdlm_jax.sweeps.jobs import Job, longest_first
from mdlm_jax.sweeps.launched import write_launched
from mdlm_jax.sweeps.work import TRAIN, work_command

NAME = "submit"
FIELDS = {"command", "run"}


def check_line(line: str) -> None:
    """Raises UserError if the line lacks {command} or has fields other than {command} and {run}."""
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(line) if name is not None}
        if fields <= FIELDS:
            line.format(command="", run="")
    except ValueError as error:
        raise UserError(f"--submit={line!r}: {error}; a brace of the shell is written twice, as in {{{{") from error
    if "command" not in fields or fields - FIELDS:
        raise UserError(f"--submit={line!r}; accepted: a line with {{command}}, and {{run}} for the run's name")


def submit(jobs: Sequence[Job], line: str, command: Sequence[str] = TRAIN) -> dict[pathlib.Path, str]:
    """Runs the line in a shell for each job, longest first.

    {command} may run on all machines of a pod at once, and again after a preemption: the first machine claims the run.

    Returns:
        Run -> why its submission failed, for those that failed.
    """
    check_line(line)
    problems = {}
    for job in longest_first(jobs):
        name = f"{NAME}-{uuid.uuid4().hex[:8]}"
        words = shlex.join(work_command(job.runs, name, command))
        done = subprocess.run(
            line.format(command=words, run=job.folder.name), shell=True, capture_output=True, text=True
        )
        if done.returncode:
            output = (done.stderr or done.stdout).strip().splitlines()
            problems[job.folder] = f"exit code {done.returncode}" + (f": {output[-1]}" if output else "")
        else:
            for run, earlier in job.runs.items():
                write_launched(run, NAME, name, earlier)
    return problems
