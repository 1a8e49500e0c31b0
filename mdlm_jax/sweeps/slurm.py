"""Runs on a SLURM cluster, through submitit: one array per sweep, one or more nodes per run.

SLURM restarts a job after a preemption, a node failure or its time limit, and the run resumes from its last checkpoint.
"""

import os
import pathlib
import subprocess
from collections.abc import Iterable, Sequence

from mdlm_jax.errors import UserError
from mdlm_jax.runs.attempts import CANCELLED, this_process
from mdlm_jax.sweeps.jobs import Job, longest_first
from mdlm_jax.sweeps.launched import read_launched, write_launched
from mdlm_jax.sweeps.work import TRAIN, in_own_process, work

SUBMISSIONS = "submissions"  # submitit's files, in the sweep's folder
SECONDS_TO_SAVE = 90  # between SIGTERM and the time limit
NAME = "slurm"


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
    try:
        import submitit
    except ImportError as error:
        raise UserError("submitit is not installed; accepted: pip install 'mdlm-jax[slurm]'") from error
    options = {"signal": f"TERM@{SECONDS_TO_SAVE}", "requeue": True} | resources
    ordered = longest_first(jobs)
    try:
        executor = submitit.SlurmExecutor(folder / SUBMISSIONS)
        executor.update_parameters(job_name=folder.name, additional_parameters=options, array_parallelism=len(ordered))
        ids = [job.job_id for job in executor.map_array(work_in_job, ordered, [tuple(command)] * len(ordered))]
    except RuntimeError as error:
        raise UserError(f"SLURM takes no jobs: {str(error).strip().splitlines()[-1]}") from error
    for job, job_id in zip(ordered, ids, strict=True):
        for run, earlier in job.runs.items():
            write_launched(run, NAME, job_id, earlier)
    return ids


def work_in_job(job: Job, command: Sequence[str] = TRAIN) -> str:
    """Trains a run inside a SLURM task. If the time limit stopped the run, the task requeues its own job."""
    job_id = os.environ["SLURM_JOB_ID"]
    name = f"{NAME}-{os.environ.get('SLURM_ARRAY_JOB_ID', job_id)}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    owner = this_process(name, int(os.environ.get("SLURM_RESTART_COUNT", "0")))
    outcome = work(job.runs, owner, in_own_process(command))
    # A cancelled or preempted job is no longer RUNNING: the first must not be requeued, SLURM requeues the second.
    if outcome == "stopped" and not (job.folder / CANCELLED).exists() and states([job_id]) == {job_id: "RUNNING"}:
        subprocess.run(["scontrol", "requeue", job_id], check=False)
    return outcome


def states(ids: Iterable[str]) -> dict[str, str] | None:
    """The state of each job in SLURM's queue, with SLURM's reason if any, such as RUNNING or PENDING (Priority).

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
