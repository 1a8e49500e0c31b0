"""A pool of processes on this machine: one run per slot, longest first.

No run is trained twice, however many pools there are.

Each run has a worker of its own (`work.py`), which claims it and outlives a pool that is killed.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.sweeps.work import TRAIN, told_to_end, work_command

POLL_SECONDS = 0.1
# What jax sees from a process that pins nothing: the platform and how many devices it has.
PROBE = "import jax; print(jax.default_backend(), jax.local_device_count())"


class Place(NamedTuple):
    """Where one run at a time may run."""

    cores: frozenset[int]  # empty: wherever the system puts it
    environment: dict[str, str]  # what makes the run see its own devices only


class Job(NamedTuple):
    folder: pathlib.Path  # of the run, whose name is the run's
    flops: float
    steps: int
    forgiven: int = 0  # attempts that were known when the run was launched
    mates: tuple = ()  # jobs that are trained in the same process, as one program

    @property
    def together(self) -> tuple["Job", ...]:
        return (self, *self.mates)

    @property
    def total_flops(self) -> float:
        return sum(job.flops for job in self.together)

    @property
    def runs(self) -> dict[pathlib.Path, int]:
        """As a worker takes them: folder -> attempts known."""
        return {job.folder: job.forgiven for job in self.together}


class Running(NamedTuple):
    job: Job
    place: Place
    process: subprocess.Popen
    started: float  # time.time()


class Ended(NamedTuple):
    job: Job
    outcome: str  # done | failed | stopped
    seconds: float  # in this pool, its share of those it was trained with; 0 where another one ran it
    exit_code: int  # negative: the signal that ended it
    cause: str  # of a failure or stop


class Snapshot(NamedTuple):
    """The pool at one moment."""

    waiting: list[Job]
    running: list[Running]
    ended: list[Ended]
    stopping: bool


def places(workers: int = 0) -> list[Place]:
    """Places on the accelerators of this machine or, where there are none, on its cores; one each by default.

    With fewer `workers` each gets an equal group, with more they share. Raises UserError where that can not be.
    """
    if workers < 0:
        raise UserError(f"--workers={workers}; accepted: 1 or more, or 0 for one on each accelerator or core")
    probed = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if probed.returncode:
        raise UserError(f"jax finds no device: {probed.stderr.strip().splitlines()[-1]}")
    platform, count = probed.stdout.split()
    if platform == "cpu":
        # XLA starts as many threads as the process has cores
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        count = len(cores) or os.cpu_count()
        return [Place(frozenset(cores[i] for i in mine if cores), {}) for mine in shares(count, workers)]
    groups = shares(int(count), workers)
    if platform == "gpu":
        return [Place(frozenset(), _gpu_environment(mine, int(count), len(groups))) for mine in groups]
    if len(groups) == 1:
        return [Place(frozenset(), {})]
    if len(groups) != int(count):
        raise UserError(f"--workers={workers}; accepted on {count} {platform} devices: 0, 1 or {count}")
    one_chip = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    return [Place(frozenset(), one_chip | {"TPU_VISIBLE_CHIPS": str(mine[0])}) for mine in groups]


def shares(count: int, workers: int) -> list[list[int]]:
    """Which of `count` devices each worker has: equal groups, or one that several share; one each with workers = 0."""
    workers = workers or count
    size = max(count // workers, 1)
    return [[(worker * size + i) % count for i in range(size)] for worker in range(workers)]


def _gpu_environment(mine: list[int], count: int, workers: int) -> dict[str, str]:
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(names[i] for i in mine)}
    if workers > count:
        # jax takes most of a device's memory at its start; those who share one divide it
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / -(-workers // count):.3f}"
    return environment


def _start(job: Job, place: Place, command: Sequence[str]) -> Running:
    all_cores = os.sched_getaffinity(0) if place.cores else frozenset()
    try:
        if place.cores:
            # of this thread only, and inherited: unlike a preexec_fn, safe whatever other threads do
            os.sched_setaffinity(0, place.cores)
        process = subprocess.Popen(
            work_command(job.runs, command=command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # a run of a sweep is a process by itself, also where the sweep is one task of several
            env=os.environ | {"SLURM_STEP_NUM_TASKS": "1"} | place.environment,
            start_new_session=True,  # Ctrl-C in the terminal reaches the pool alone, which tells its runs
        )
    finally:
        if all_cores:
            os.sched_setaffinity(0, all_cores)
    return Running(job, place, process, time.time())


def _end(run: Running) -> tuple[list[Ended], list[Job]]:
    """(how each run of a process ended here, those that another process holds)."""
    code, seconds = run.process.returncode, (time.time() - run.started) / len(run.job.together)
    me, ended, held = (socket.gethostname(), run.process.pid), [], []
    for job in run.job.together:
        last = attempts.last_attempt(job.folder)
        if last and (last.owner.host, last.owner.pid) == me:
            ended.append(Ended(job, last.outcome or "stopped", seconds, last.exit_code, last.cause))
        else:
            held.append(job._replace(mates=()))
    if code and not ended:
        return [Ended(job, "failed", seconds, code, "its worker could not start") for job in held], []
    return ended, held


def _ended_elsewhere(job: Job, is_done: Callable[[pathlib.Path], bool]) -> Ended | None:
    """What others made of a run while this pool had no place for it."""
    if is_done(job.folder):
        return Ended(job, "done", 0.0, 0, "")
    last = attempts.last_attempt(job.folder)
    if last and last.number > job.forgiven and last.outcome == "failed":
        return Ended(job, "failed", 0.0, last.exit_code, last.cause)
    if (job.folder / attempts.CANCELLED).exists():
        return Ended(job, "stopped", 0.0, 0, "cancelled")
    return None


def run_pool(
    jobs: Sequence[Job],
    places: Sequence[Place],
    is_done: Callable[[pathlib.Path], bool],
    watch: Callable[[Snapshot], None],
    command: Sequence[str] = TRAIN,
) -> list[Ended]:
    """Runs `command` FOLDER for every job that is not done, longest first; returns how each ended.

    SIGTERM, SIGHUP or Ctrl-C is passed on as SIGTERM, and the pool ends once its runs have; a second one kills them.
    Runs that other processes hold are waited for. `watch` is shown the pool several times a second.
    """
    waiting = longest_first(jobs)
    running, ended, free, told = [], [], list(places), 0
    with told_to_end() as received:
        try:
            while running or (waiting and not received):
                for _ in received[told:]:
                    for run in running:
                        if told:
                            os.killpg(run.process.pid, signal.SIGKILL)
                        else:
                            run.process.terminate()
                    told += 1
                for run in [run for run in running if run.process.poll() is not None]:
                    running.remove(run)
                    free.append(run.place)
                    over, held = _end(run)
                    ended += over
                    waiting += held
                for job in list(waiting):
                    if received or not free:
                        break
                    if found := _ended_elsewhere(job, is_done):
                        waiting.remove(job)
                        waiting += [mate._replace(mates=job.mates[1:]) for mate in job.mates[:1]]
                        ended.append(found)
                    elif not attempts.is_running(job.folder):
                        waiting.remove(job)
                        running.append(_start(job, free.pop(0), command))
                watch(Snapshot(waiting, running, ended, bool(received)))
                if running or waiting:
                    time.sleep(POLL_SECONDS)
        finally:
            for run in running:  # where something above went wrong
                run.process.terminate()
    return ended


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """Of runs with equal FLOPs the one with more steps has the smaller network, which is slower."""
    return sorted(jobs, key=lambda job: (job.total_flops, job.steps), reverse=True)
