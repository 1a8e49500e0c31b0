"""Holds the folder of a run while a process trains it, so that no other process trains the run at the same time."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence

import jax

from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.runs.say import say


@contextlib.contextmanager
def hold(folders: Sequence[pathlib.Path]) -> Iterator[dict[pathlib.Path, tuple[str, str]]]:
    """Holds the folders, and shows processes on any machine that their owner is alive.

    Yields:
        A dict from folder to (outcome, cause). Its entries are recorded at the end; a folder without one is recorded as
        stopped.

    Raises:
        UserError: Another process trains one of these runs.
        OSError: The disk cannot be written.
    """
    outcomes: dict[pathlib.Path, tuple[str, str]] = {}
    if os.environ.get(attempts.HELD) or jax.process_index() > 0:
        yield outcomes
        return
    held: dict[pathlib.Path, attempts.Attempt] = {}
    ended = threading.Event()
    try:
        for folder in folders:
            held[folder] = _claim(folder)
        threading.Thread(target=_beat, args=(held, ended), daemon=True).start()
        yield outcomes
    finally:
        ended.set()
        for folder, attempt in held.items():
            outcome, cause = outcomes.get(folder, ("stopped", ""))
            with contextlib.suppress(OSError):  # a full disk is reported by what failed on it
                attempts.end(folder, attempt, outcome, int(outcome == "failed"), cause)


def _claim(folder: pathlib.Path) -> attempts.Attempt:
    # earlier attempts that ended do not matter: the user requested a new one
    try:
        attempt = attempts.claim(folder, attempts.this_process(), forgiven=attempts.count(folder))
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None  # reported like any other fault of the disk while training
        raise
    if attempt is None:
        last = attempts.last_attempt(folder)
        owner = f"process {last.owner.pid} on {last.owner.host}" if last else "another process"
        raise UserError(f"{folder} is being trained by {owner}; accepted: another --run, or wait until that has ended")
    return attempt


def _beat(held: dict[pathlib.Path, attempts.Attempt], ended: threading.Event) -> None:
    while not ended.wait(attempts.BEAT_SECONDS):
        for folder, attempt in held.items():
            if attempts.is_superseded(folder, attempt):
                say(f"{folder} is being trained by another process, which took this one for dead: it ends here")
                os._exit(1)
            with contextlib.suppress(OSError):
                attempts.beat(folder, attempt)
