"""Ctrl-C ends training at once, with one line, and saves the state where there is one."""

import pathlib
import signal
import time

import pytest

from tests import run_folders as runs
from tests.runs.test_resume import last_checkpoint, wait_for

KEYS = {"steps": 100_000, "train__checkpoint_every": 0, "objective__name": "ar"}


def interrupted(process) -> tuple[int, list[str]]:
    """(exit code, lines on standard error)."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, [line for line in err.splitlines() if line.strip()]


def started_importing(folder, process):
    maps = pathlib.Path(f"/proc/{process.pid}/maps")
    wait_for(lambda: "jaxlib" in maps.read_text())


def started_compiling(folder, process):
    wait_for(lambda: (folder / "checkpoints").is_dir())
    time.sleep(0.3)


@pytest.mark.parametrize(
    "moment", [started_compiling, pytest.param(started_importing, marks=pytest.mark.slow)], ids=lambda it: it.__name__
)
def test_ctrl_c_before_first_step(tmp_path, moment):
    """Training exits with code 130 and one line, without a traceback."""
    process = runs.start(tmp_path / "run", **KEYS, model__size="131k", objective__block_size=0)
    moment(tmp_path / "run", process)
    code, lines = interrupted(process)
    assert code == 130 and lines[-1] == "mdlm-jax: interrupted" and not any("Traceback" in line for line in lines)
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert not metrics.exists() or not metrics.read_text(), "no step was made"
    assert not list((tmp_path / "run").glob("checkpoints/[0-9]*")), "and nothing was saved"


def test_ctrl_c_during_training_saves(tmp_path):
    process = runs.start(tmp_path / "run", **KEYS)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 3)
    code, lines = interrupted(process)
    assert code == 0 and "state saved" in lines[-1] and last_checkpoint(tmp_path / "run")
