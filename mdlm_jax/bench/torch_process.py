"""The process that runs PyTorch, controlled by lines of JSON. Imports neither jax nor torch."""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, cast

from mdlm_jax.errors import UserError


class Peer(NamedTuple):
    """The running process and its version of PyTorch."""

    process: subprocess.Popen
    version: str


class Timed(NamedTuple):
    """How long a step took."""

    seconds: float
    cpu_seconds: float  # of all threads of the process
    value: float  # what the step returned: its loss


def timed(function: Callable[[], float]) -> Timed:
    """Calls a function and measures it."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = function()
    return Timed(time.perf_counter() - wall, time.process_time() - cpu, value)


def serve(version: str, questions: dict[str, Callable[[], float]]) -> None:
    """Answers each line of stdin, the name of a question, with the time of its call, until stdin ends."""
    print(json.dumps(version), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(questions[line.strip()])), flush=True)


def check_python(python: str) -> None:
    """Imports what PyTorch's side needs, so that a suite does not run for minutes without it.

    Raises:
        UserError: That Python cannot be run, or lacks torch or numpy.
    """
    accepted = "accepted: a Python that has torch and numpy"
    try:
        tried = subprocess.run([python, "-c", "import numpy, torch"], stdin=subprocess.DEVNULL, capture_output=True)
    except OSError as error:
        raise UserError(f"--torch-python={python}: cannot be run ({error.strerror}); {accepted}") from error
    if tried.returncode != 0:
        raise UserError(f"--torch-python={python}: cannot import torch and numpy; {accepted}")


def start(python: str, folder: pathlib.Path, module: str = "mdlm_jax.bench.torch_side") -> Peer:
    """Starts PyTorch's side, in a Python that passes `check_python`.

    Raises:
        UserError: The process ended.
    """
    root = str(pathlib.Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [python, "-m", module, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )
    return Peer(process, _read(process))


def ask(peer: Peer, question: str) -> Timed:
    """The answer to one of the questions of `serve`."""
    time.sleep(0.1)  # the threads of the other process may still be busy
    print(question, file=peer.process.stdin, flush=True)
    return Timed(*_read(peer.process))


def stop(peer: Peer) -> None:
    """Ends the process."""
    peer.process.stdin.close()
    peer.process.wait()


def _read(process: subprocess.Popen[str]):
    line = process.stdout.readline()
    if not line:
        raise UserError(f"{' '.join(cast(list, process.args)[:3])} ended with exit code {process.wait()}")
    return json.loads(line)
