"""Tiny runs in the test's own process, where what is tested needs no process of its own."""

import contextlib
import json
import pathlib
import shutil
import signal
from collections.abc import Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from mdlm_jax.configs import base
from mdlm_jax.runs.loop import train
from mdlm_jax.runs.result import Result
from mdlm_jax.runs.saved import LAST_SAVED, saved_steps
from tests import run_folders as runs


def config_of(**keys) -> ConfigDict:
    """The config of tests/run_folders.py with `keys`, dotted config keys with __ for dots."""
    config = base.get_config()
    config.update_from_flattened_dict(runs.TINY | {key.replace("__", "."): value for key, value in keys.items()})
    return config


@contextlib.contextmanager
def signals_as_before() -> Iterator[None]:
    """Training listens to signals; the tests after it should not."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def train_here(folder: pathlib.Path, *, fresh: bool = False, extension: str = "", **keys) -> Result | None:
    with signals_as_before():
        return train(config_of(**keys), folder, fresh=fresh, extension=extension)


def interrupt(folder: pathlib.Path, step: int) -> None:
    """Leaves a finished run as a kill after the checkpoint of `step` would, 0 for none."""
    (folder / "result.json").unlink(missing_ok=True)
    for later in (later for later in saved_steps(folder / "checkpoints") if later > step):
        shutil.rmtree(folder / "checkpoints" / str(later))
    if not step:
        (folder / LAST_SAVED).unlink()


def losses_of(folder: pathlib.Path) -> list[float]:
    """The training losses of a run, by step."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def state_of(folder: pathlib.Path, step: int) -> dict:
    """The arrays of a checkpoint, as they were written."""
    return ocp.StandardCheckpointer().restore(folder / "checkpoints" / str(step) / "default")


def assert_same_state(one: pathlib.Path, other: pathlib.Path) -> None:
    """Of the newest checkpoints of two runs, bitwise."""
    states = [state_of(folder, saved_steps(folder / "checkpoints")[-1]) for folder in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, *states)
