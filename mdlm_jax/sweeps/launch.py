"""A pool of worker processes on this machine: one run at a time per slot, longest run first.

Each slot has a worker (`work.py`), which claims a run before it trains it, so several pools never train a run twice. A
worker whose pool is killed ends after its run. A worker that is killed is replaced.
"""

import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import NamedTuple

from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.sweeps import tasks, waits
from mdlm_jax.sweeps.jobs import ACCELERATOR_STEP, CORE_STEP, Job, longest_first, preferred
from mdlm_jax.sweeps.work import TRAIN, stop_signals, work_command

POLL_SECONDS = 0.1
# Prints the platform and the number of devices that jax finds in an unpinned process.
PROBE = "import jax; print(jax.default_backend(), jax.local_device_count())"


class Slot(NamedTuple):
    """A slot of the machine, which trains one run at a time."""

    cores: frozenset[int]  # CPU cores of the slot; empty: any
    environment: dict[str, str]  # variables that restrict the run to its own devices


class Running(NamedTuple):
    """A job that a worker is training."""

    job: Job
    slot: Slot
    process: subprocess.Popen
    started: float  # time.monotonic()


class Ended(NamedTuple):
    """How a job ended."""

    job: Job
    outcome: str  # done | failed | stopped
    seconds: float  # time in this pool divided by the runs of the program; 0 if another process trained it
    exit_code: int  # negative: the signal that ended it
    cause: str  # why it failed or stopped; "" if done


class Snapshot(NamedTuple):
    """The state of the pool at one moment."""

    waiting: list[Job]
    running: list[Running]
    ended: list[Ended]
    stopping: bool


def check_workers(workers: int) -> None:
    """Raises UserError for a negative number of workers."""
    if workers < 0:
        raise UserError(f"--workers={workers}; accepted: 1 or more, or 0 for one on each accelerator or core")


def slots(workers: int = 0) -> list[Slot]:
    """The slots of this machine: its accelerators or, without any, its CPU cores.

    Args:
        workers: The number of slots; 0 for one per device. With fewer workers than devices, each slot gets an equal
            group of devices; with more, workers share devices.

    Raises:
        UserError: Jax finds no device, or the devices cannot be divided among that many workers.
    """
    check_workers(workers)
    probed = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if probed.returncode:
        raise UserError(f"jax finds no device: {probed.stderr.strip().splitlines()[-1]}")
    platform, count = probed.stdout.split()
    if platform == "cpu":
        # XLA starts as many threads as the process has cores
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        count = len(cores) or os.cpu_count()
        return [Slot(frozenset(cores[i] for i in mine if cores), {}) for mine in shares(count, workers)]
    groups = shares(int(count), workers)
    if platform == "gpu":
        return [Slot(frozenset(), _gpu_environment(mine, int(count), len(groups))) for mine in groups]
    if len(groups) == 1:
        return [Slot(frozenset(), {})]
    if len(groups) != int(count):
        raise UserError(f"--workers={workers}; accepted on {count} {platform} devices: 0, 1 or {count}")
    one_chip = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    return [Slot(frozenset(), one_chip | {"TPU_VISIBLE_CHIPS": str(mine[0])}) for mine in groups]


def shares(count: int, workers: int) -> list[list[int]]:
    """The device numbers of each worker: equal groups, or one device that several share. 0 workers: one per device."""
    workers = workers or count
    size = max(count // workers, 1)
    return [[(worker * size + i) % count for i in range(size)] for worker in range(workers)]


def _gpu_environment(mine: list[int], count: int, workers: int) -> dict[str, str]:
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(names[i] for i in mine)}
    if workers > count:
        # jax reserves most of a device's memory at its start, so workers that share a device divide it
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / -(-workers // count):.3f}"
    return environment


class Free(NamedTuple):
    """A slot without a run."""

    slot: Slot
    worker: subprocess.Popen | None = None  # None: not started yet, or gone
    shape: Hashable = None  # of its last run


def _start(job: Job, free: Free, command: Sequence[str]) -> Running:
    task = {"runs": {str(folder): number for folder, number in job.runs.items()}}
    worker = tasks.give(free.worker, task, lambda: _worker(free.slot, command))
    return Running(job, free.slot, worker, time.monotonic())


def _worker(slot: Slot, command: Sequence[str]) -> subprocess.Popen:
    all_cores = os.sched_getaffinity(0) if slot.cores else frozenset()
    try:
        if slot.cores:
            # sets this thread's affinity, which the child inherits; a preexec_fn is not safe with other threads
            os.sched_setaffinity(0, slot.cores)
        return tasks.start(
            work_command({}, command=command),
            # each run trains in a single process, even if the sweep is one of several SLURM tasks
            env=os.environ | {"SLURM_STEP_NUM_TASKS": "1"} | slot.environment,
            start_new_session=True,  # Ctrl-C in the terminal reaches only the pool, which signals its runs
        )
    finally:
        if all_cores:
            os.sched_setaffinity(0, all_cores)


def _end(run: Running, code: int) -> tuple[list[Ended], list[Job]]:
    """(how each run of a job ended, the runs that another process holds)."""
    seconds = (time.monotonic() - run.started) / len(run.job.together)
    me, ended, held = (socket.gethostname(), run.process.pid), [], []
    for job in run.job.together:
        last = attempts.last_attempt(job.folder)
        if last and last.number > job.forgiven and (last.owner.host, last.owner.pid) == me:
            ended.append(Ended(job, last.outcome or "stopped", seconds, last.exit_code, last.cause))
        else:
            held.append(job._replace(mates=()))
    if code and not ended:
        return [Ended(job, "failed", seconds, code, "its worker could not start") for job in held], []
    return ended, held


def ended_elsewhere(job: Job, is_done: Callable[[pathlib.Path], bool]) -> Ended | None:
    """How a waiting run ended in another process; None if it has not ended."""
    if is_done(job.folder):
        return Ended(job, "done", 0.0, 0, "")
    last = attempts.last_attempt(job.folder)
    if last and last.number > job.forgiven and last.outcome == "failed":
        return Ended(job, "failed", 0.0, last.exit_code, last.cause)
    if (job.folder / attempts.CANCELLED).exists():
        return Ended(job, "stopped", 0.0, 0, "cancelled")
    return None


def _without_parent(job: Job, coming: Collection[pathlib.Path]) -> Ended | None:
    """How a branch ends whose parent will not save the checkpoint that it continues; None for any other job.

    Args:
        job: The job.
        coming: The runs that this pool trains or will train.
    """
    if job.parent is None or waits.is_ready(job) or job.parent in coming or attempts.is_running(job.parent):
        return None
    last = attempts.last_attempt(job.parent)
    what = f"{job.parent.name} %s, whose step {job.birth_step:,} it continues"
    if last and last.outcome == "failed":
        return Ended(job, "failed", 0.0, last.exit_code, f"{what % 'failed'}: {last.cause}")
    return Ended(job, "stopped", 0.0, 0, what % "is not trained")


def _next_job(
    wanted: Sequence[Job],
    waiting: list[Job],
    running: Sequence[Running],
    ended: list[Ended],
    is_done: Callable[[pathlib.Path], bool],
) -> Job | None:
    """Takes the first job that can start out of `waiting`; what has ended before it moves to `ended`."""
    coming = {it.folder for job in (*waiting, *(run.job for run in running)) for it in job.together}
    for job in wanted:
        if found := ended_elsewhere(job, is_done) or _without_parent(job, coming):
            waiting.remove(job)
            waiting += [mate._replace(mates=job.mates[1:]) for mate in job.mates[:1]]
            ended.append(found)
        elif not attempts.is_running(job.folder) and waits.is_ready(job):
            waiting.remove(job)
            return job
    return None


def run_pool(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    is_done: Callable[[pathlib.Path], bool],
    watch: Callable[[Snapshot], None],
    command: Sequence[str] = TRAIN,
    patience: float = math.inf,
) -> list[Ended]:
    """Trains every job that is not done, in the order of `jobs.preferred`.

    On SIGTERM, SIGHUP or Ctrl-C the pool sends SIGTERM to its runs and ends when they have ended; a second signal kills
    them.

    Args:
        jobs: The runs.
        slots: The slots of this machine.
        is_done: Whether the run in a folder is done.
        watch: Called with a snapshot of the pool several times a second.
        command: The command that trains the runs whose folders follow it.
        patience: Seconds that the pool waits, without a run of its own, for the runs that other processes hold.

    Returns:
        How each job ended, in the order in which they ended.
    """
    step_flops = CORE_STEP if any(slot.cores for slot in slots) else ACCELERATOR_STEP
    waiting = longest_first(jobs, step_flops)
    running, ended, free, signalled = [], [], [Free(slot) for slot in slots], 0
    busy = time.monotonic()  # when this pool last had a run
    with stop_signals() as received:
        try:
            while running or (waiting and not received and time.monotonic() - busy < patience):
                for _ in received[signalled:]:
                    for run in running:
                        if signalled:
                            os.killpg(run.process.pid, signal.SIGKILL)
                        else:
                            run.process.terminate()
                    signalled += 1
                for run in list(running):
                    if (code := tasks.ended(run.process, 0.0)) is not None:
                        running.remove(run)
                        free.append(Free(run.slot, run.process, run.job.shape))
                        over, held = _end(run, code)
                        ended += over
                        waiting += held
                for place in list(free):
                    taken = {run.job.shape for run in running}
                    wanted = preferred(waiting, step_flops, place.shape, taken)
                    if not received and (job := _next_job(wanted, waiting, running, ended, is_done)):
                        free.remove(place)
                        running.append(_start(job, place, command))
                watch(Snapshot(waiting, running, ended, bool(received)))
                busy = time.monotonic() if running else busy
                if running or waiting:
                    time.sleep(POLL_SECONDS)
        finally:
            for run in running:  # only after an exception above
                run.process.terminate()
    for place in free:
        if place.worker is not None:
            tasks.finish(place.worker)
    return ended
