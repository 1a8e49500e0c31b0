"""SLURM allocations that share the runs of a sweep: each trains run after run on its node, as a pool does.

A job that trains one small run mostly queues, imports and compiles. Here the workers of an allocation live as long as
it does, and a run goes to whichever allocation claims it first.
"""

import os
import pathlib
from collections.abc import Sequence

from rich.console import Console

from mdlm_jax.runs import attempts
from mdlm_jax.runs.finished import is_done
from mdlm_jax.sweeps import launch, live, slurm
from mdlm_jax.sweeps.jobs import Job
from mdlm_jax.sweeps.launched import write_launched
from mdlm_jax.sweeps.work import TRAIN


def submit(
    folder: pathlib.Path, jobs: Sequence[Job], resources: dict[str, str], command: Sequence[str], allocations: int
) -> list[str]:
    """Queues one array of at most `allocations` tasks, each of which can train any of the jobs.

    Args:
        folder: The folder of the sweep.
        jobs: The runs to train.
        resources: Options of sbatch, for each allocation.
        command: The command that trains the runs whose folders follow it.
        allocations: The number of allocations.

    Returns:
        The SLURM job ids.

    Raises:
        UserError: SLURM or submitit is not installed, or SLURM refuses the jobs.
    """
    count = min(allocations, len(jobs))
    ids = slurm.queue_array(folder, resources, work_on_all, [list(jobs)] * count, [tuple(command)] * count)
    array = f"{ids[0].partition('_')[0]}_[0-{count - 1}]"
    for job in jobs:
        for run, earlier in job.runs.items():
            write_launched(run, slurm.NAME, array, earlier)
    return ids


def work_on_all(jobs: Sequence[Job], command: Sequence[str] = TRAIN) -> None:
    """Trains the runs that no other process holds, inside a SLURM task, one per accelerator or core at once.

    If the time limit stopped it, the task requeues its own job. Without a run of its own it waits for as long as it
    takes to see that a run's owner is dead, then ends.
    """
    with live.display(sum(is_done(job.folder) for job in jobs), Console()) as watch:
        stopping = False

        def look(pool: launch.Snapshot) -> None:
            nonlocal stopping
            stopping = pool.stopping
            watch(pool)

        patience = attempts.LEASE_SECONDS + attempts.BEAT_SECONDS
        launch.run_pool(jobs, _slots(), is_done, look, command, patience)
    if stopping and not all(launch.ended_elsewhere(run, is_done) for job in jobs for run in job.together):
        slurm.requeue()


def _slots() -> list[launch.Slot]:
    """The slots of this allocation. SLURM need not bind a job to its cores; then its runs are not bound either."""
    found = launch.slots()
    allotted = int(os.environ.get("SLURM_CPUS_ON_NODE", len(found)))
    if found[0].cores and allotted < len(found):
        return [launch.Slot(frozenset(), {})] * allotted
    return found
