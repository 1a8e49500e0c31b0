"""The worker of a sweep: claims a run, trains it in a child process, and records how it ended.

A worker may also train several runs together as one program. One that gets run after run keeps its child (`tasks.py`)
for as long as runs end well, so that equal programs are compiled once.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mdlm_jax.plugins import is_plugin
from mdlm_jax.runs import attempts
from mdlm_jax.runs.attempts import Owner
from mdlm_jax.sweeps import tasks

LOG_NAME = "log.txt"
TRAIN = (sys.executable, "-m", "mdlm_jax", "train", "--run")
EACH = "-"  # instead of a folder: the runs come one after another, as tasks
POLL_SECONDS, LOOK_SECONDS = 0.1, 1.0  # between looks at the process, and at the folder
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG
EXIT_CODES = {"done": 0, "elsewhere": 0, "failed": 1, "stopped": 75}  # 75: EX_TEMPFAIL, to be tried again


def work_command(runs: Mapping[pathlib.Path, int], job: str = "", command: Sequence[str] = TRAIN) -> list[str]:
    """The command line that does `work`; without runs they come as tasks: {"runs": folder -> earlier attempts}."""
    words = [sys.executable, "-m", "mdlm_jax", "sweep", "work", *(map(str, runs) if runs else [EACH])]
    words += ["--forgiven", *map(str, runs.values())] if runs else []
    words += ["--job", job] if job else []
    return words if tuple(command) == TRAIN else [*words, "--command", shlex.join(command)]


class Child(NamedTuple):
    """A process that trains runs."""

    process: subprocess.Popen
    wait: Callable[[float], int | None]  # waits some seconds for the end of the runs; their exit code, None: they go on


Start = Callable[[Sequence[pathlib.Path], pathlib.Path], Child]  # (folders of runs, their log) -> what trains them


def work(runs: Mapping[pathlib.Path, int], owner: Owner, start: Start) -> str:
    """Trains runs, unless they are held by another process, cancelled or ended.

    SIGTERM is passed on to the training process, which saves its state. Several processes of one job train together:
    the first one claims the run and records how it ended, and the others return "elsewhere".

    Args:
        runs: Folder -> number of earlier attempts to ignore, however they ended.
        owner: This process.
        start: Starts to train, as `in_own_process` or `in_kept_process` does.

    Returns:
        A key of EXIT_CODES.
    """
    wanted = {folder: number for folder, number in runs.items() if not (folder / attempts.CANCELLED).exists()}
    claimed = {folder: attempts.claim(folder, owner, number) for folder, number in wanted.items()}
    mine = {folder: attempt for folder, attempt in claimed.items() if attempt is not None}
    if not mine:
        joined = [folder for folder in wanted if _is_joined(folder, owner)]
        if joined:
            _run(joined, f"log-{owner.host}-{owner.pid}.txt", start, lambda: "")
        return "elsewhere"
    lead, *others = mine
    for folder in others:
        (folder / LOG_NAME).write_text(
            f"trained together with {lead}, which has the {LOG_NAME} of both\n", encoding="utf-8"
        )
    beaten = time.monotonic()

    def look() -> str:
        nonlocal beaten
        if any(attempts.is_superseded(folder, attempt) for folder, attempt in mine.items()):
            return "lost"
        if time.monotonic() - beaten > attempts.BEAT_SECONDS:
            for folder, attempt in mine.items():
                attempts.beat(folder, attempt)
            beaten = time.monotonic()
        return "cancelled" if any((folder / attempts.CANCELLED).exists() for folder in mine) else ""

    before = {folder: _read_result(folder) for folder in mine}
    code, stopped_by = _run(list(mine), LOG_NAME, start, look)
    log = lead / LOG_NAME
    outcomes = {
        attempts.end(folder, attempt, *_how_it_ended(folder, before[folder], code, stopped_by, log)).outcome
        for folder, attempt in mine.items()
    }
    return next(outcome for outcome in ("failed", "stopped", "done") if outcome in outcomes)


def _is_joined(folder: pathlib.Path, owner: Owner) -> bool:
    last = attempts.last_attempt(folder)
    return last is not None and attempts.is_mate(last, owner)


def _run(folders: Sequence[pathlib.Path], log_name: str, start: Start, look: Callable[[], str]) -> tuple[int, str]:
    """Trains runs until they end.

    Returns:
        (exit code, why it was stopped). The reason is a signal's name, one that `look` returned ("cancelled" or
        "lost"), or "".
    """
    with stop_signals() as received:
        child = start(folders, folders[0] / log_name)
        stopped_by, looked = "", 0.0
        while (code := child.wait(POLL_SECONDS)) is None:
            reason = received[0] if received else ""
            if time.monotonic() - looked > LOOK_SECONDS:
                reason, looked = look() or reason, time.monotonic()
            if reason == "lost":
                child.process.kill()  # another process trains the run already
            elif reason and not stopped_by:
                child.process.terminate()
            stopped_by = stopped_by or reason
        if stopped_by:  # a process that was signalled trains nothing else: the signal may come late
            child.process.kill()
            child.process.wait()
        return code, stopped_by or "".join(received[:1])


def in_own_process(command: Sequence[str] = TRAIN) -> Start:
    """Trains runs in a process of their own: `command` FOLDER ..."""

    def start(folders: Sequence[pathlib.Path], log: pathlib.Path) -> Child:
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*command, *map(str, folders)], stdin=subprocess.DEVNULL, stdout=file, stderr=file, **_as_child()
            )

        def wait(seconds: float) -> int | None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            return process.returncode

        return Child(process, wait)

    return start


@contextlib.contextmanager
def in_kept_process(command: Sequence[str] = TRAIN) -> Iterator[Start]:
    """Trains runs in a process that is kept for as long as they end well, and is then replaced: `command` EACH.

    A run with a user's own code has a process of its own, because that code may change any state of the process.
    """
    kept = None
    alone = in_own_process(command)

    def start(folders: Sequence[pathlib.Path], log: pathlib.Path) -> Child:
        nonlocal kept
        if any(map(_has_own_code, folders)):
            return alone(folders, log)
        with log.open("ab") as file:  # for what a process says before it has read the task
            begin = partial(tasks.start, [*command, EACH], stderr=file, **_as_child())
            kept = process = tasks.give(kept, {"runs": [*map(str, folders)], "log": str(log)}, begin)
        return Child(process, partial(tasks.ended, process))

    try:
        yield start
    finally:
        if kept is not None:
            tasks.finish(kept)


def _as_child() -> dict:
    return {"env": os.environ | {attempts.HELD: "1"}, "preexec_fn": _die_with_parent}


def _has_own_code(folder: pathlib.Path) -> bool:
    """Whether a run's objective, process or schedule is a user's own."""
    try:
        objective = json.loads((folder / "config.json").read_text(encoding="utf-8"))["objective"]
        return any(is_plugin(objective[key]) for key in ("name", "process", "schedule"))
    except (OSError, ValueError, KeyError, TypeError):
        return True  # what is wrong with the file is said by the process that trains


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Catches the signals that would end this process; yields a list that receives their names."""
    received: list[str] = []
    record = lambda number, frame: received.append(signal.Signals(number).name)  # noqa: E731
    before = [signal.signal(number, record) for number in STOP_SIGNALS]
    try:
        yield received
    finally:
        for number, handler in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, handler)


def _die_with_parent() -> None:
    # Without its worker nothing shows other processes that the run is being trained, and they would train it again.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)


def _how_it_ended(
    folder: pathlib.Path, before: dict, code: int, stopped_by: str, log: pathlib.Path
) -> tuple[str, int, str]:
    """(outcome, exit code, cause) of an attempt. `before` is the result of an earlier attempt."""
    result = _read_result(folder)
    # in a program of several runs, another may have failed or been stopped after this one was done
    if result.get("status") == "done" and (code == 0 or result != before):
        return "done", 0, ""
    # a scheduler may signal the training process and not its worker
    if stopped_by or code in (0, -signal.SIGTERM):
        return "stopped", code, stopped_by or "stopped by a signal"
    if result.get("status") == "failed" and result != before:
        return "failed", code, str(result.get("cause"))
    lines = [line.strip() for line in tail(log, 4096) if line.strip()]
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return "failed", code, f"{how}: {lines[-1]}" if lines else how


def _read_result(folder: pathlib.Path) -> dict:
    """The content of result.json; {} if it is missing or invalid."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return result if isinstance(result, dict) else {}


def tail(path: pathlib.Path, size: int) -> list[str]:
    """The lines in the last `size` bytes of a file, the first perhaps cut; [] if the file is missing."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - size, 0))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
