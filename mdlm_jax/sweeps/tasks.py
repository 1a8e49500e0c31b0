"""Processes that do one task after another, so that each does not start with imports and compilations.

A task is a line of JSON on standard input. Its beginning is an empty line on standard output, and its end a line with
its exit code. A process that should not do another task ends instead, and its exit code is that of the task.
"""

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

BEGUN = b"\n"


def start(words: Sequence[str], **options: Any) -> subprocess.Popen:
    """Starts a process that does tasks. `options` are those of Popen."""
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **options)


def give(process: subprocess.Popen | None, task: dict, begin: Callable[[], subprocess.Popen]) -> subprocess.Popen:
    """Gives a task to a process that has none, or to a new one if that has ended.

    Args:
        process: A process that has ended a task, or None.
        task: The task.
        begin: Starts a process that does tasks.

    Returns:
        The process that has the task.
    """
    if process is not None and _write(process, task) and process.stdout.readline() == BEGUN:
        return process
    process = begin()
    _write(process, task)
    return process


def _write(process: subprocess.Popen, task: dict) -> bool:
    try:
        process.stdin.write(json.dumps(task).encode() + b"\n")
        return True
    except BrokenPipeError:  # it has ended
        return False


def ended(process: subprocess.Popen, seconds: float) -> int | None:
    """Waits until the task of a process ends, at most for some seconds.

    Returns:
        The exit code of the task; negative for the signal that ended the process. None: the task goes on.
    """
    if select.select([process.stdout], [], [], seconds)[0]:
        line = process.stdout.readline()
        return None if line == BEGUN else int(line) if line else process.wait()
    return process.poll()  # processes that it has started may hold its output open


def finish(process: subprocess.Popen) -> None:
    """Ends a process that has no task."""
    process.stdin.close()
    process.wait()
    process.stdout.close()


def serve(do: Callable[[dict], int]) -> None:
    """Does the tasks of standard input until it ends. Nothing else can read it, or write to standard output.

    Args:
        do: Does a task and returns its exit code. If it raises, the process ends.
    """
    tasks, answers = os.fdopen(os.dup(0)), os.dup(1)
    show_nothing()
    with contextlib.suppress(BrokenPipeError):  # whoever gave a task is gone
        for line in tasks:
            os.write(answers, BEGUN)
            code = do(json.loads(line))
            os.write(answers, b"%d\n" % code)


def show_nothing() -> None:
    """Standard input is empty from now on, and nothing keeps standard output."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)
