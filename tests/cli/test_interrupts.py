"""Ctrl-C ends every verb that can take long: one line, exit code 130."""

import os
import pty
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests import run_folders as runs

pytestmark = pytest.mark.slow
STARTED_SECONDS = 1.5  # by then the verb has begun and none of them has ended
VERBS = {
    "evaluate": "evaluate --run RUN --draws 4096",
    "sample": "sample --run RUN --count 4096",
    "check": "check masked --draws 100000000",
    "bench": "bench --quick",
    "sweep plan": "sweep plan smdm",
    "sweep run": "sweep run quickstart --folder NEW --submit 'true {command}'",
    "sweep report": "sweep report smdm --folder SWEEP",
    "sweep status": "sweep status smdm --folder SWEEP --watch",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, in a folder that is also one of a sweep, which has another run that waits."""
    found = tmp_path_factory.mktemp("interrupts")
    runs.train(found / "run", steps=2)
    (found / "waiting").mkdir()
    (found / "waiting" / "config.json").write_bytes((found / "run" / "config.json").read_bytes())
    return found


def start(words, stdout=subprocess.DEVNULL, python=()) -> subprocess.Popen:
    command = [sys.executable, *python, "-m", "mdlm_jax", *words]
    return subprocess.Popen(
        command, env=runs.environment(), cwd=runs.ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True
    )


def interrupted(process) -> tuple[int, list[str]]:
    """(exit code, lines on standard error) of a command that gets SIGINT."""
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    return process.returncode, [line for line in err.splitlines() if line.strip()]


@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c_is_one_line(folder, verb):
    """Besides what says how far the verb has come."""
    words = VERBS[verb].replace("RUN", str(folder / "run")).replace("SWEEP", str(folder))
    process = start(shlex.split(words.replace("NEW", str(folder / "new"))))
    time.sleep(STARTED_SECONDS)
    code, lines = interrupted(process)
    assert code == 130, lines
    assert lines[-1] == "mdlm-jax: interrupted" and all(line.startswith("mdlm-jax: ") for line in lines), lines


def test_ctrl_c_while_modules_load():
    process = start(["--help"], python=("-X", "importtime"))
    while "argparse" not in process.stderr.readline():  # Python names each module once it is loaded
        pass
    code, lines = interrupted(process)
    assert code == 130 and lines[-1] == "mdlm-jax: interrupted"


def test_a_terminal_has_its_cursor_back(folder, monkeypatch):
    """After a table that renews itself, which hides it."""
    monkeypatch.setenv("TERM", "xterm")
    terminal, its_end = pty.openpty()
    process = start(["sweep", "status", "smdm", "--folder", str(folder), "--watch"], stdout=its_end)
    os.close(its_end)
    shown = b""
    while b"waiting" not in shown:
        shown += os.read(terminal, 2**16)
    assert b"\x1b[?25l" in shown
    code, _ = interrupted(process)
    assert code == 130 and os.read(terminal, 2**16).endswith(b"\x1b[?25h")
    os.close(terminal)
