"""Messages of one line for the user at the terminal."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

FIRST_SECONDS, AGAIN_SECONDS = 2.0, 20.0  # a longer task is reported, then again at this interval


def say(line: str) -> None:
    """Prints a line on standard error, where it does not mix with results."""
    print(f"mdlm-jax: {line}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss, or m:ss under an hour."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def counted(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """Yields the items, and reports which of them is next if they take long."""
    started = told = time.perf_counter()
    for number, item in enumerate(items, 1):
        now = time.perf_counter()
        if number > 1 and now - told > FIRST_SECONDS:
            told = now
            left = (now - started) / (number - 1) * (len(items) - number + 1)
            say(f"{what}: {number} of {len(items)}, about {left:.0f} s left")
        yield item


@contextlib.contextmanager
def doing(what: str, one_process: bool = False) -> Iterator[None]:
    """Reports a task and its duration if it takes long.

    Args:
        what: The task.
        one_process: No other process does the same task. It saves a task without jax the start of the devices, which
            know the number of this process; only process 0 reports.
    """
    started, ended = time.perf_counter(), threading.Event()
    reports = one_process or _is_first()

    def watch() -> None:
        wait = FIRST_SECONDS
        while not ended.wait(wait):
            say(f"{what}, for {time.perf_counter() - started:.0f} s ..")
            wait = AGAIN_SECONDS

    if reports:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
    if reports and (seconds := time.perf_counter() - started) > FIRST_SECONDS:
        say(f"{what}: {seconds:.1f} s")


def _is_first() -> bool:
    import jax

    return jax.process_index() == 0
