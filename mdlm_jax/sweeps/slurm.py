"""Runs on a SLURM cluster, through submitit: one array per sweep, one or more nodes per run.

`allocations.py` trains many small runs in each task instead.

SLURM restarts a job after a preemption, a node failure or its time limit, and the run resumes from its last checkpoint.
"""

import os
import pathlib
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mdlm_jax.errors import UserError
from mdlm_jax.runs.attempts import CANCELLED, this_process
from mdlm_jax.sweeps.jobs import Job, longest_first
from mdlm_jax.sweeps.launched import read_launched, write_launched
from mdlm_jax.sweeps.work import TRAIN, in_own_process, work

SUBMISSIONS = "submissions"  # submitit's files, in the sweep's folder
SECONDS_TO_SAVE = 90  # between SIGTERM and the time limit
NAME = "slurm"
ONE_NODE = ("nodes", "N", "ntasks", "n", "ntasks-per-node")


def parse_resources(words: Sequence[str]) -> dict[str, str]:
    """Parses KEY=VALUE words into options of sbatch.

    Raises:
        UserError: A word is not KEY=VALUE.
    """
    wrong = [word for word in words if not word.partition("=")[0] or "=" not in word]
    if wrong:
        raise UserError(f"--slurm {wrong[0]}; accepted: options of sbatch, as in nodes=2 gpus-per-node=8 time=600")
    return dict(word.split("=", 1) for word in words)


def check_allocations(allocations: int, resources: dict[str, str]) -> None:
    """Raises UserError for a negative number of allocations, or for allocations of more than one process."""
    if allocations < 0:
        raise UserError(f"--allocations={allocations}; accepted: 1 or more, or 0 for one job per run")
    for name in ONE_NODE:
        if allocations and resources.get(name, "1") != "1":
            raise UserError(
                f"--allocations={allocations} with --slurm {name}={resources[name]}; accepted: one process on one node "
                "per allocation; for runs over several nodes leave --allocations out"
            )


def submit(folder: pathlib.Path, jobs: Sequence[Job], resources: dict[str, str], command: Sequence[str]) -> list[str]:
    """Queues one array with one task per job, longest first.

    Args:
        folder: The folder of the sweep.
        jobs: The runs to train.
        resources: Options of sbatch.
        command: The command that trains the runs whose folders follow it.

    Returns:
        The SLURM job ids.

    Raises:
        UserError: SLURM or submitit is not installed, or SLURM refuses the jobs.
    """
    ordered = longest_first(jobs)
    ids = queue_array(folder, resources, work_in_job, ordered, [tuple(command)] * len(ordered))
    for job, job_id in zip(ordered, ids, strict=True):
        for run, earlier in job.runs.items():
            write_launched(run, NAME, job_id, earlier)
    return ids


def queue_array(
    folder: pathlib.Path, resources: dict[str, str], function: Callable[..., Any], *arguments: Sequence
) -> list[str]:
    """Queues one array whose tasks call `function`, each with its element of every argument.

    Returns:
        The SLURM job ids of the tasks.

    Raises:
        UserError: SLURM or submitit is not installed, or SLURM refuses the jobs.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError("submitit is not installed; accepted: pip install 'mdlm-jax[slurm]'") from error
    options = {"signal": f"TERM@{SECONDS_TO_SAVE}", "requeue": True} | resources
    try:
        executor = submitit.SlurmExecutor(folder / SUBMISSIONS)
        executor.update_parameters(
            job_name=folder.name, additional_parameters=options, array_parallelism=len(arguments[0])
        )
        return [job.job_id for job in executor.map_array(function, *arguments)]
    except RuntimeError as error:
        raise UserError(f"SLURM takes no jobs: {str(error).strip().splitlines()[-1]}") from error


def work_in_job(job: Job, command: Sequence[str] = TRAIN) -> str:
    """Trains a run inside a SLURM task. If the time limit stopped the run, the task requeues its own job."""
    name = f"{NAME}-{os.environ.get('SLURM_ARRAY_JOB_ID', _job())}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    owner = this_process(name, int(os.environ.get("SLURM_RESTART_COUNT", "0")))
    outcome = work(job.runs, owner, in_own_process(command))
    if outcome == "stopped" and not (job.folder / CANCELLED).exists():
        requeue()
    return outcome


def requeue() -> None:
    """Requeues this process's own job, unless it was cancelled or preempted: SLURM requeues the second itself."""
    if states([_job()]) == {_job(): "RUNNING"}:  # what was cancelled or preempted is no longer RUNNING
        subprocess.run(["scontrol", "requeue", _job()], check=False)


def _job() -> str:
    return os.environ["SLURM_JOB_ID"]


def states(ids: Iterable[str]) -> dict[str, str] | None:
    """The state of each job in SLURM's queue, with SLURM's reason if any, such as RUNNING or PENDING (Priority).

    Args:
        ids: Ids of jobs, of tasks of an array (12_3), or of a whole array (12_[0-3]), which runs if a task of it does.

    Returns:
        Job id -> state, for the jobs in the queue; None if SLURM does not answer.
    """
    parents = {job_id.partition("_")[0] for job_id in ids}
    if not parents:
        return {}
    answer = _slurm("squeue", "-h", "-r", "-o", "%i %A %T %r", "-j", ",".join(sorted(parents)))
    if answer.returncode:
        return {} if "Invalid job id" in answer.stderr else None
    found = {}
    for line in answer.stdout.splitlines():
        name, raw, state, reason = line.split(maxsplit=3)
        state += "" if reason == "None" else f" ({reason})"
        found |= {name: state, raw: state}
        whole = name.partition("_")[0] + "_["
        found[whole] = state if state == "RUNNING" else found.get(whole, state)
    found |= {job_id: found[whole] for job_id in ids if (whole := job_id.partition("[")[0] + "[") in found}
    return {job_id: found[job_id] for job_id in ids if job_id in found}


def queued(folders: Iterable[pathlib.Path]) -> dict[pathlib.Path, str] | None:
    """The queue state of each run that SLURM still has; None if SLURM does not answer."""
    ids = {}
    for folder in folders:
        launched = read_launched(folder)
        if launched is not None and launched.launcher == NAME:
            ids[folder] = launched.job
    found = states(ids.values())
    return None if found is None else {folder: found[job] for folder, job in ids.items() if job in found}


def cancel(folders: Iterable[pathlib.Path]) -> None:
    """Cancels the SLURM jobs of these runs. Running jobs save their state first."""
    ids = [launched.job for folder in folders if (launched := read_launched(folder)) and launched.launcher == NAME]
    if ids:
        _slurm("scancel", *ids)


def _slurm(*words: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
