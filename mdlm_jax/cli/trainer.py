"""`mdlm-jax train --run -`: trains run after run in one process, which imports once and compiles equal programs once.

Each run has its own log. The process ends with a run that fails or is stopped, and with one that leaves the process
other than it was, so a run never depends on the runs before it.
"""

import gc
import logging
import os
import pathlib
import random
import signal
import sys
from typing import Any

from mdlm_jax.cli.devices import join_processes, prepare_devices


def train_each() -> int:
    """Trains the runs of {"runs": folders, "log": file}, the tasks of standard input."""
    prepare_devices()
    join_processes("", 0, 0)
    import mdlm_jax.runs.loop  # noqa: F401  imports add handlers to the root logger, before the first state is taken
    from mdlm_jax.cli.main import exit_code
    from mdlm_jax.cli.train import resume
    from mdlm_jax.runs.say import say
    from mdlm_jax.sweeps import tasks

    programs = {}

    def do(task: dict) -> int:
        _write_to(pathlib.Path(task["log"]))
        before, stopped = _state(), []

        def act() -> int:
            code, whole = resume([pathlib.Path(folder) for folder in task["runs"]], programs)
            stopped.append(not whole)
            return code

        code = exit_code(act)
        gc.collect()  # what is left of the run, such as its arrays
        after = _state()
        if changed := [name for name in after if after[name] != before[name]]:
            say(f"this run left {' and '.join(changed)} of its process changed: the next run gets a new process")
        if code or any(stopped) or changed:
            raise SystemExit(code)
        _write_to(pathlib.Path(os.devnull))
        return code

    tasks.serve(do)
    return 0


def _write_to(path: pathlib.Path) -> None:
    """Sends all output of this process, also that of XLA, to the end of a file."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number in (1, 2):
        os.dup2(file, number)
    os.close(file)


def _state() -> dict[str, Any]:
    """The state of this process that code can change for what runs after it."""
    import jax
    import numpy as np

    name, keys, *rest = np.random.get_state()
    root = logging.getLogger()
    return {
        "the environment": dict(os.environ),
        "the current folder": os.getcwd(),
        "the signal handlers": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "jax.config": dict(jax.config.values),
        "sys.path": list(sys.path),
        "the state of random": random.getstate(),
        "the state of numpy.random": (name, bytes(keys), *rest),
        "the root logger": (root.level, list(root.handlers), root.manager.disable),
    }
