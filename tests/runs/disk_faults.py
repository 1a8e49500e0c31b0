"""`unshare -rm python -m tests.runs.disk_faults FOLDER`: runs on a disk of their own that fills up and is made
read-only. Prints, as JSON, how each attempt of one command ended.
"""

import json
import pathlib
import signal
import subprocess
import sys
import time

from mdlm_jax.runs.saved import newest_whole, saved_steps
from tests import run_folders as runs
from tests.runs.here import assert_same_state

disk = pathlib.Path(sys.argv[1])
KEYS = {"steps": 60, "train__checkpoint_every": 5, "train__log_every": 20}


def attempt(name: str, meanwhile=None) -> dict:
    """The command of a run, its exit code, what it said in its own words, and the checkpoints it left."""
    started = subprocess.Popen(runs.command(disk / name, **KEYS), stderr=subprocess.PIPE, text=True)
    if meanwhile is not None:
        meanwhile(started)
    _, said = started.communicate(timeout=120)
    lines = runs.own_lines(said)
    return {"code": started.returncode, "said": lines, "whole": newest_whole(disk / name / "checkpoints")[0]}


def shell(*words: str) -> None:
    subprocess.run(words, check=True)


def read_only_after_a_checkpoint(run: subprocess.Popen) -> None:
    """The folder of checkpoints, while the run has its metrics open. It is halted for that: it may be nearly done."""
    folder = str(disk / "read_only" / "checkpoints")
    while run.poll() is None and not (pathlib.Path(folder).is_dir() and saved_steps(pathlib.Path(folder))):
        time.sleep(0.01)
    run.send_signal(signal.SIGSTOP)
    shell("mount", "--bind", folder, folder)
    shell("mount", "-o", "remount,bind,ro", folder)
    run.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    shell("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk))
    found = {"undisturbed": attempt("whole")}

    used = int(subprocess.run(["df", "--output=used", disk], capture_output=True, text=True).stdout.split()[1])
    shell("mount", "-o", f"remount,size={used + 400}k", str(disk))
    found["full"] = attempt("full")
    found["still full"] = attempt("full")
    shell("mount", "-o", "remount,size=20m", str(disk))
    found["with room"] = attempt("full")
    assert_same_state(disk / "full", disk / "whole")

    found["read-only meanwhile"] = attempt("read_only", read_only_after_a_checkpoint)
    shell("umount", str(disk / "read_only" / "checkpoints"))
    shell("mount", "-o", "remount,ro", str(disk))
    found["read-only at the start"] = attempt("read_only")
    shell("mount", "-o", "remount,rw", str(disk))
    found["writable"] = attempt("read_only")
    assert_same_state(disk / "read_only", disk / "whole")
    print(json.dumps(found))
