"""Which process trains a run: `attempts/1.json`, `attempts/2.json`, .. in its folder prevent two from doing so at once.

A process claims an attempt by linking a complete file to the next number. Only one process can succeed, on any disk
that machines share. The owner touches the file while it runs, and writes into it how the attempt ended. An owner counts
as dead if its process is gone from this machine or, on another machine, if the file has not been touched for
LEASE_SECONDS.
"""

import json
import os
import pathlib
import socket
import time
import uuid
from typing import NamedTuple

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.records import record

FOLDER, CANCELLED = "attempts", "cancelled"
BEAT_SECONDS, LEASE_SECONDS = 15.0, 180.0  # network disks show a touch up to a minute late
HELD = "MDLM_JAX_HELD"  # set in the environment of processes that an owner starts: it holds the folders for them
JOIN_SECONDS = 300.0  # how long jax.distributed waits for all its processes


class Owner(NamedTuple):
    """A process that trains a run, or wants to."""

    host: str
    machine: str  # the kernel and process namespace of `pid`; empty if unknown
    pid: int
    began: str  # start time by that kernel's clock, because pids are reused
    job: str  # the scheduler's id of the job; empty without a scheduler
    restart: int  # how often the scheduler has restarted the job


NOBODY = Owner("", "", 0, "", "", 0)


class Attempt(NamedTuple):
    """One attempt to train a run."""

    number: int  # from 1
    owner: Owner
    started: float  # time.time()
    outcome: str = ""  # done | failed | stopped; empty until it has ended
    cause: str = ""  # of a failure or stop
    exit_code: int = 0  # negative: the signal that ended it
    ended: float = 0.0


def this_process(job: str = "", restart: int = 0) -> Owner:
    """This process as the owner of an attempt."""
    return Owner(socket.gethostname(), _machine(), os.getpid(), _began(os.getpid()), job, restart)


def _machine() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process of this machine began; empty where it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def path_of(folder: pathlib.Path, number: int) -> pathlib.Path:
    """The file of an attempt in the folder of a run."""
    return folder / FOLDER / f"{number}.json"


def count(folder: pathlib.Path) -> int:
    """The number of the newest attempt; 0 if there is none."""
    return max((int(path.stem) for path in (folder / FOLDER).glob("*.json") if path.stem.isdigit()), default=0)


def last_attempt(folder: pathlib.Path) -> Attempt | None:
    """The newest attempt of a run. If its file cannot be read, it counts as failed and its cause names the file."""
    if not (number := count(folder)):
        return None
    path = path_of(folder, number)
    try:
        return record(json.loads(path.read_text(encoding="utf-8")), Attempt)
    except (OSError, ValueError, RecursionError) as error:
        return Attempt(number, NOBODY, 0.0, "failed", f"{path}: not the record of an attempt ({error})", 1)


def is_alive(folder: pathlib.Path, attempt: Attempt, now: float) -> bool:
    """Whether the owner of an attempt still trains.

    Args:
        folder: The run's folder.
        attempt: The attempt.
        now: The time by the clock of the disk, in seconds.
    """
    if attempt.outcome:
        return False
    if attempt.owner.machine and attempt.owner.machine == _machine():
        return _began(attempt.owner.pid) == attempt.owner.began
    try:
        return abs(now - path_of(folder, attempt.number).stat().st_mtime) < LEASE_SECONDS  # clocks may differ a little
    except FileNotFoundError:
        return False


def is_running(folder: pathlib.Path) -> bool:
    """Whether a living process holds the run."""
    last = last_attempt(folder)
    return last is not None and is_alive(folder, last, time.time())


def claim(folder: pathlib.Path, owner: Owner, forgiven: int) -> Attempt | None:
    """Claims the next attempt of a run.

    An attempt by the same job before the scheduler restarted it counts as over.

    Args:
        folder: The run's folder.
        owner: The process that claims it.
        forgiven: Attempts up to this number do not end the run, however they ended: the launcher knew of them.

    Returns:
        The attempt, or None if another process holds the run or it has ended.

    Raises:
        UserError: The folder cannot be written.
    """
    last = last_attempt(folder)
    mine = Attempt(last.number + 1 if last else 1, owner, time.time())
    temporary = folder / FOLDER / f".{uuid.uuid4().hex}.partial"
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(_to_json(mine), encoding="utf-8")
            if last and not _is_free(folder, last, owner, forgiven, temporary.stat().st_mtime):
                return None
            os.link(temporary, path_of(folder, mine.number))
        except FileExistsError:
            return None
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{temporary.parent}: {error.strerror}; accepted: a disk to write to, with links") from error
    return mine


def _is_free(folder: pathlib.Path, last: Attempt, owner: Owner, forgiven: int, now: float) -> bool:
    earlier_life = owner.job != "" and last.owner.job == owner.job and last.owner.restart < owner.restart
    if last.outcome == "done" or (last.outcome == "failed" and not earlier_life):
        return last.number <= forgiven
    return earlier_life or not is_alive(folder, last, now)


def is_mate(attempt: Attempt, owner: Owner) -> bool:
    """Whether `owner` belongs to the job that holds the attempt, and starts early enough to join it."""
    same_job = owner.job != "" and (attempt.owner.job, attempt.owner.restart) == (owner.job, owner.restart)
    return same_job and not attempt.outcome and abs(time.time() - attempt.started) < JOIN_SECONDS


def beat(folder: pathlib.Path, attempt: Attempt) -> None:
    """Touches the attempt's file, so that others see that the owner is alive."""
    os.utime(path_of(folder, attempt.number))


def is_superseded(folder: pathlib.Path, attempt: Attempt) -> bool:
    """Whether another process has claimed the run, as can happen when the owner's machine was suspended."""
    return path_of(folder, attempt.number + 1).exists()


def end(folder: pathlib.Path, attempt: Attempt, outcome: str, exit_code: int, cause: str) -> Attempt:
    """Records how an attempt ended.

    Args:
        folder: The run's folder.
        attempt: The attempt.
        outcome: "done", "failed" or "stopped".
        exit_code: Exit code of the process; negative for the signal that ended it.
        cause: Why the run failed or stopped.

    Returns:
        The attempt with its end.
    """
    ended = attempt._replace(outcome=outcome, exit_code=exit_code, cause=cause, ended=time.time())
    write_whole(path_of(folder, attempt.number), _to_json(ended))
    return ended


def _to_json(attempt: Attempt) -> str:
    return json.dumps(attempt._asdict() | {"owner": attempt.owner._asdict()}, indent=1) + "\n"
