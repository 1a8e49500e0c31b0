"""Who trains a run: `attempts/1.json`, `attempts/2.json`, .. in its folder, so that no run is trained twice at once.

An attempt is claimed by linking a whole file to the next number, which one process alone can do, on any disk that
machines share. Its owner touches the file while it lives and writes into it how it ended. An owner is dead if its
process is gone from this machine or, on another machine, if the file has not been touched for LEASE_SECONDS.
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

FOLDER, CANCELLED = "attempts", "cancelled"
BEAT_SECONDS, LEASE_SECONDS = 15.0, 180.0  # disks on a network show what is touched up to a minute late
HELD = "MDLM_JAX_HELD"  # in the environment of what an owner starts: the owner holds the folders for it
JOIN_SECONDS = 300.0  # for so long jax.distributed waits for all its processes


class Owner(NamedTuple):
    """A process that would train a run."""

    host: str
    machine: str  # kernel and process space in which `pid` counts; empty where it is unknown
    pid: int
    began: str  # by that kernel's clock: a number is given to another process later
    job: str  # what a scheduler calls it; empty without one
    restart: int  # how often that scheduler has started the job again


NOBODY = Owner("", "", 0, "", "", 0)


class Attempt(NamedTuple):
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
    return folder / FOLDER / f"{number}.json"


def count(folder: pathlib.Path) -> int:
    """How many attempts there were at a run."""
    return max((int(path.stem) for path in (folder / FOLDER).glob("*.json") if path.stem.isdigit()), default=0)


def last_attempt(folder: pathlib.Path) -> Attempt | None:
    """The newest attempt of a run; a failed one, whose cause names its file, where that can not be read."""
    if not (number := count(folder)):
        return None
    path = path_of(folder, number)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Attempt(**fields | {"owner": Owner(**fields["owner"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        return Attempt(number, NOBODY, 0.0, "failed", f"{path}: not the record of an attempt ({error})", 1)


def is_alive(folder: pathlib.Path, attempt: Attempt, now: float) -> bool:
    """Whether its owner still trains. `now` is the time by the clock of the disk."""
    if attempt.outcome:
        return False
    if attempt.owner.machine and attempt.owner.machine == _machine():
        return _began(attempt.owner.pid) == attempt.owner.began
    try:
        return abs(now - path_of(folder, attempt.number).stat().st_mtime) < LEASE_SECONDS  # clocks may differ, little
    except FileNotFoundError:
        return False


def is_running(folder: pathlib.Path) -> bool:
    """Whether a living process holds the run."""
    last = last_attempt(folder)
    return last is not None and is_alive(folder, last, time.time())


def claim(folder: pathlib.Path, owner: Owner, forgiven: int) -> Attempt | None:
    """The next attempt, this owner's from now on; None where the run is another's, or has ended.

    Attempts up to number `forgiven` do not count as its end, however they ended: whoever launched this one knew them.
    An earlier life of the same job is over, whatever it left. Raises UserError where the folder can not be written.
    """
    last = last_attempt(folder)
    mine = Attempt(last.number + 1 if last else 1, owner, time.time())
    temporary = folder / FOLDER / f".{uuid.uuid4().hex}.partial"
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_to_json(mine), encoding="utf-8")
        try:
            if last and not _is_free(folder, last, owner, forgiven, temporary.stat().st_mtime):
                return None
            os.link(temporary, path_of(folder, mine.number))
        except FileExistsError:
            return None
        finally:
            temporary.unlink()
    except OSError as error:
        raise UserError(f"{temporary.parent}: {error.strerror}; accepted: a disk to write to, with links") from error
    return mine


def _is_free(folder: pathlib.Path, last: Attempt, owner: Owner, forgiven: int, now: float) -> bool:
    earlier_life = owner.job != "" and last.owner.job == owner.job and last.owner.restart < owner.restart
    if last.outcome == "done" or (last.outcome == "failed" and not earlier_life):
        return last.number <= forgiven
    return earlier_life or not is_alive(folder, last, now)


def is_mate(attempt: Attempt, owner: Owner) -> bool:
    """Whether `owner` is another process of the job that holds the attempt, in time to train with it."""
    same_job = owner.job != "" and (attempt.owner.job, attempt.owner.restart) == (owner.job, owner.restart)
    return same_job and not attempt.outcome and time.time() - attempt.started < JOIN_SECONDS


def beat(folder: pathlib.Path, attempt: Attempt) -> None:
    """Tells others that the owner lives."""
    os.utime(path_of(folder, attempt.number))


def is_superseded(folder: pathlib.Path, attempt: Attempt) -> bool:
    """Whether others took the owner for dead, as when its machine stood still."""
    return path_of(folder, attempt.number + 1).exists()


def end(folder: pathlib.Path, attempt: Attempt, outcome: str, exit_code: int, cause: str) -> Attempt:
    """Writes how it ended; returns the attempt as it is now."""
    ended = attempt._replace(outcome=outcome, exit_code=exit_code, cause=cause, ended=time.time())
    write_whole(path_of(folder, attempt.number), _to_json(ended))
    return ended


def _to_json(attempt: Attempt) -> str:
    return json.dumps(attempt._asdict() | {"owner": attempt.owner._asdict()}, indent=1) + "\n"
