"""A pool of processes on this machine: one run a place, longest first, and no run twice however many pools there are.

A run belongs to whoever holds the lock on the file `claim` in its folder. The run's process inherits the lock from the
pool, so a run whose pool was killed still belongs to its process, and the system frees what a dead process held.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from mdlm_jax.errors import UserError

CLAIM_NAME, LOG_NAME = "claim", "log.txt"
TRAIN = (sys.executable, "-m", "mdlm_jax.cli", "train", "--run")
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


class Running(NamedTuple):
    job: Job
    place: Place
    claim: TextIO
    process: subprocess.Popen
    started: float  # time.time()


class Ended(NamedTuple):
    job: Job
    outcome: str  # done | failed | stopped
    seconds: float  # in this pool; 0 where another one ran it
    exit_code: int  # negative: the signal that ended it


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


def try_claim(folder: pathlib.Path) -> TextIO | None:
    """The open, locked claim of a run, or None where a living process holds it. Closing it gives the run back."""
    claim = (folder / CLAIM_NAME).open("a+", encoding="utf-8")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        claim.close()
        return None
    except OSError as error:
        raise UserError(f"{claim.name}: can not be locked ({error.strerror}); accepted: a disk with flock") from error
    return claim


def is_claimed(folder: pathlib.Path) -> bool:
    """Whether a living process holds the run."""
    if not (folder / CLAIM_NAME).exists():
        return False
    claim = try_claim(folder)
    if claim is not None:
        claim.close()
    return claim is None


def read_claim(folder: pathlib.Path) -> dict[str, Any]:
    """host and pid of a run's last process and, where a pool saw its end, outcome, exit_code and ended; or nothing."""
    try:
        return json.loads((folder / CLAIM_NAME).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}


def _write_claim(claim: TextIO, **entries: Any) -> None:
    claim.truncate(0)  # the file is open for appending, so what follows lands at its start
    claim.write(json.dumps({"host": socket.gethostname()} | entries) + "\n")
    claim.flush()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that told this process to end, as they come."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda number, frame: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _start(job: Job, place: Place, claim: TextIO, command: Sequence[str]) -> Running:
    all_cores = os.sched_getaffinity(0) if place.cores else frozenset()
    with (job.folder / LOG_NAME).open("ab") as log:
        try:
            if place.cores:
                # of this thread only, and inherited: unlike a preexec_fn, safe whatever other threads do
                os.sched_setaffinity(0, place.cores)
            process = subprocess.Popen(
                [*command, str(job.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # a run of a sweep is a process by itself, also where the sweep is one task of several
                env=os.environ | {"SLURM_STEP_NUM_TASKS": "1"} | place.environment,
                pass_fds=[claim.fileno()],
                start_new_session=True,  # Ctrl-C in the terminal reaches the pool alone, which tells its runs
            )
        finally:
            if all_cores:
                os.sched_setaffinity(0, all_cores)
    _write_claim(claim, pid=process.pid)
    return Running(job, place, claim, process, time.time())


def _end(run: Running, is_done: Callable[[pathlib.Path], bool], stopping: bool) -> Ended:
    code = run.process.returncode
    outcome = "done" if is_done(run.job.folder) else "failed"
    if outcome == "failed" and (stopping or code in (0, -signal.SIGTERM)):
        outcome = "stopped"
    _write_claim(run.claim, pid=run.process.pid, exit_code=code, outcome=outcome, ended=time.time())
    run.claim.close()
    return Ended(run.job, outcome, time.time() - run.started, code)


def _ended_elsewhere(job: Job, is_done: Callable[[pathlib.Path], bool], since: float) -> Ended | None:
    """What another pool made of a run while this one waited for it."""
    last = read_claim(job.folder)
    if is_done(job.folder):
        return Ended(job, "done", 0.0, 0)
    if last.get("outcome") == "failed" and last["ended"] > since:
        return Ended(job, "failed", 0.0, last["exit_code"])
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
    # of runs with equal FLOPs the one with more steps has the smaller network, which is slower
    waiting = sorted(jobs, key=lambda job: (job.flops, job.steps), reverse=True)
    running, ended, free, since, told = [], [], list(places), time.time(), 0
    with _signals() as received:
        try:
            while running or (waiting and not received):
                for _ in received[told:]:
                    for run in running:
                        run.process.send_signal(signal.SIGKILL if told else signal.SIGTERM)
                    told += 1
                for run in [run for run in running if run.process.poll() is not None]:
                    running.remove(run)
                    free.append(run.place)
                    ended.append(_end(run, is_done, bool(received)))
                for job in list(waiting):
                    if received or not free or (claim := try_claim(job.folder)) is None:
                        continue
                    waiting.remove(job)
                    found = _ended_elsewhere(job, is_done, since)
                    if found is None:
                        running.append(_start(job, free.pop(0), claim, command))
                    else:
                        claim.close()
                        ended.append(found)
                watch(Snapshot(waiting, running, ended, bool(received)))
                if running or waiting:
                    time.sleep(POLL_SECONDS)
        finally:
            for run in running:  # where something above went wrong
                run.process.terminate()
    return ended
