"""One attempt at one run, whatever launched it: claims it, trains it in a process of its own, says how it ended."""

import contextlib
import ctypes
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from mdlm_jax.scaling import attempts
from mdlm_jax.scaling.attempts import Owner

LOG_NAME = "log.txt"
TRAIN = (sys.executable, "-m", "mdlm_jax.cli", "train", "--run")
POLL_SECONDS, LOOK_SECONDS = 0.1, 1.0  # between looks at the process, and at the folder
TOLD_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG
EXIT_CODES = {"done": 0, "elsewhere": 0, "failed": 1, "stopped": 75}  # 75: EX_TEMPFAIL, to be tried again


def work_command(folder: pathlib.Path, forgiven: int, job: str = "", command: Sequence[str] = TRAIN) -> list[str]:
    """The command line that does `work`."""
    words = [sys.executable, "-m", "mdlm_jax.cli", "sweep", "work", str(folder), "--forgiven", str(forgiven)]
    words += ["--job", job] if job else []
    return words if tuple(command) == TRAIN else [*words, "--command", shlex.join(command)]


def work(folder: pathlib.Path, forgiven: int, owner: Owner, command: Sequence[str] = TRAIN) -> str:
    """Runs `command` FOLDER unless the run is another's, called off or ended; returns a key of EXIT_CODES.

    SIGTERM is passed on, so that the run saves. Several processes of one job train together: the first to come claims
    the run and says how it ended; to the others it is elsewhere.
    """
    if (folder / attempts.CANCELLED).exists():
        return "elsewhere"
    mine = attempts.claim(folder, owner, forgiven)
    if mine is None:
        last = attempts.last_attempt(folder)
        if last is not None and attempts.is_mate(last, owner):
            _run(folder, f"log-{owner.host}-{owner.pid}.txt", command, lambda: "")
        return "elsewhere"
    beaten = time.monotonic()

    def look() -> str:
        nonlocal beaten
        if attempts.is_superseded(folder, mine):
            return "lost"
        if time.monotonic() - beaten > attempts.BEAT_SECONDS:
            attempts.beat(folder, mine)
            beaten = time.monotonic()
        return "cancelled" if (folder / attempts.CANCELLED).exists() else ""

    before = _read_result(folder)
    code, told = _run(folder, LOG_NAME, command, look)
    return attempts.end(folder, mine, *_how_it_ended(folder, before, code, told)).outcome


def _run(folder: pathlib.Path, log_name: str, command: Sequence[str], look: Callable[[], str]) -> tuple[int, str]:
    """(exit code, why it was told to end: a signal, cancelled, lost, or nothing). `look` may give a reason too."""
    with told_to_end() as received, (folder / log_name).open("ab") as log:
        process = subprocess.Popen(
            [*command, str(folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
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


def _how_it_ended(folder: pathlib.Path, before: dict, code: int, told: str) -> tuple[str, int, str]:
    """(outcome, exit code, cause); `before` is the result that an earlier attempt left."""
    result = _read_result(folder)
    if code == 0 and result.get("status") == "done":
        return "done", code, ""
    # a scheduler may tell the training without telling its worker
    if told or code in (0, -signal.SIGTERM):
        return "stopped", code, told or "told to end"
    if result.get("status") == "failed" and result != before:
        return "failed", code, str(result.get("cause"))
    lines = [line.strip() for line in tail(folder / LOG_NAME, 4096) if line.strip()]
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return "failed", code, f"{how}: {lines[-1]}" if lines else how


def _read_result(folder: pathlib.Path) -> dict:
    """result.json; nothing where there is none that can be read."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
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
