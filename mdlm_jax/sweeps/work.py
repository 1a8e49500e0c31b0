"""One attempt at a run, or at several together: claims it, trains it in a process of its own, says how it ended."""

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

from mdlm_jax.runs import attempts
from mdlm_jax.runs.attempts import Owner

LOG_NAME = "log.txt"
TRAIN = (sys.executable, "-m", "mdlm_jax", "train", "--run")
POLL_SECONDS, LOOK_SECONDS = 0.1, 1.0  # between looks at the process, and at the folder
TOLD_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG
EXIT_CODES = {"done": 0, "elsewhere": 0, "failed": 1, "stopped": 75}  # 75: EX_TEMPFAIL, to be tried again


def work_command(runs: Mapping[pathlib.Path, int], job: str = "", command: Sequence[str] = TRAIN) -> list[str]:
    """The command line that does `work`."""
    words = [sys.executable, "-m", "mdlm_jax", "sweep", "work", *map(str, runs)]
    words += ["--forgiven", *map(str, runs.values())]
    words += ["--job", job] if job else []
    return words if tuple(command) == TRAIN else [*words, "--command", shlex.join(command)]


def work(runs: Mapping[pathlib.Path, int], owner: Owner, command: Sequence[str] = TRAIN) -> str:
    """Runs `command` FOLDER ... unless the runs are others', called off or ended; returns a key of EXIT_CODES.

    `runs` are folders and the attempts that do not count, however they ended. SIGTERM is passed on, so that they save.
    Several processes of one job train together: the first to come claims the run and says how it ended; to the others
    it is elsewhere.
    """
    wanted = {folder: number for folder, number in runs.items() if not (folder / attempts.CANCELLED).exists()}
    claimed = {folder: attempts.claim(folder, owner, number) for folder, number in wanted.items()}
    mine = {folder: attempt for folder, attempt in claimed.items() if attempt is not None}
    if not mine:
        joined = [folder for folder in wanted if _is_joined(folder, owner)]
        if joined:
            _run(joined, f"log-{owner.host}-{owner.pid}.txt", command, lambda: "")
        return "elsewhere"
    lead, *others = mine
    for folder in others:
        (folder / LOG_NAME).write_text(f"trained together with {lead}, whose {LOG_NAME} is of both\n", encoding="utf-8")
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
    code, told = _run(list(mine), LOG_NAME, command, look)
    log = lead / LOG_NAME
    outcomes = {
        attempts.end(folder, attempt, *_how_it_ended(folder, before[folder], code, told, log)).outcome
        for folder, attempt in mine.items()
    }
    return next(outcome for outcome in ("failed", "stopped", "done") if outcome in outcomes)


def _is_joined(folder: pathlib.Path, owner: Owner) -> bool:
    last = attempts.last_attempt(folder)
    return last is not None and attempts.is_mate(last, owner)


def _run(
    folders: Sequence[pathlib.Path], log_name: str, command: Sequence[str], look: Callable[[], str]
) -> tuple[int, str]:
    """(exit code, why it was told to end: a signal, cancelled, lost, or nothing). `look` may give a reason too."""
    words = [*command, *map(str, folders)]
    with told_to_end() as received, (folders[0] / log_name).open("ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {attempts.HELD: "1"},
            preexec_fn=_die_with_parent,
        )
        told, looked = "", 0.0
        while process.poll() is None:
            reason = received[0] if received else ""
            if time.monotonic() - looked > LOOK_SECONDS:
                reason, looked = look() or reason, time.monotonic()
            if reason == "lost":
                process.kill()  # another process trains the run already
            elif reason and not told:
                process.terminate()
            told = told or reason
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
        return process.returncode, told or "".join(received[:1])


@contextlib.contextmanager
def told_to_end() -> Iterator[list[str]]:
    """The names of the signals that tell this process to end, as they come; without it they would."""
    received: list[str] = []
    hear = lambda number, frame: received.append(signal.Signals(number).name)  # noqa: E731
    before = [signal.signal(number, hear) for number in TOLD_BY]
    try:
        yield received
    finally:
        for number, handler in zip(TOLD_BY, before, strict=True):
            signal.signal(number, handler)


def _die_with_parent() -> None:
    # nothing would tell others that a training without its worker lives, so that it would be trained twice
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)


def _how_it_ended(folder: pathlib.Path, before: dict, code: int, told: str, log: pathlib.Path) -> tuple[str, int, str]:
    """(outcome, exit code, cause); `before` is the result that an earlier attempt left."""
    result = _read_result(folder)
    # one of several may have failed, or have been told to end, after this one was done
    if result.get("status") == "done" and (code == 0 or result != before):
        return "done", 0, ""
    # a scheduler may tell the training without telling its worker
    if told or code in (0, -signal.SIGTERM):
        return "stopped", code, told or "told to end"
    if result.get("status") == "failed" and result != before:
        return "failed", code, str(result.get("cause"))
    lines = [line.strip() for line in tail(log, 4096) if line.strip()]
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return "failed", code, f"{how}: {lines[-1]}" if lines else how


def _read_result(folder: pathlib.Path) -> dict:
    """result.json; nothing where there is none that can be read."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return result if isinstance(result, dict) else {}


def tail(path: pathlib.Path, size: int) -> list[str]:
    """The lines within the last `size` bytes of a file, the first of them cut; none where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - size, 0))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
