"""States of runs from their folders, and the summary of a sweep."""

import io
import json
import os
import subprocess
import time

import pytest
from rich.console import Console

from mdlm_jax.config import config_hash, to_json
from mdlm_jax.configs import base
from mdlm_jax.runs import attempts
from mdlm_jax.runs.attempts import Owner, this_process
from mdlm_jax.sweeps import launched, slurm, states, submit_line
from mdlm_jax.sweeps.launch import Job
from mdlm_jax.sweeps.launched import write_launched
from tests.report.fake_run import FIELDS

ELSEWHERE = Owner("node7", "another kernel", 1, "1", "", 0)


def run(parent, name, **result):
    """A run's folder; with `result` it is done."""
    folder, config = parent / name, base.get_config()
    folder.mkdir()
    (folder / "config.json").write_text(to_json(config))
    if result:
        fields = FIELDS | {"run_id": name, "config_hash": config_hash(config), "objective": "masked"} | result
        (folder / "result.json").write_text(json.dumps(fields))
    return folder


def end(folder, owner, outcome, cause=""):
    attempts.end(folder, attempts.claim(folder, owner, 0), outcome, 1, cause)


def state(folder, in_queue=()):
    found = states.state_of(folder, dict(in_queue))
    return found.state, found.cause


def test_state_of_a_folder(tmp_path):
    waits, fails, stops, silent = (run(tmp_path, name) for name in ("waits", "fails", "stops", "silent"))
    assert state(waits) == ("waiting", "")
    assert state(waits, {waits: "PENDING"}) == ("waiting", "its job is pending")
    end(fails, this_process(), "failed", "step 3: loss nan")
    assert state(fails) == ("failed", "step 3: loss nan")
    end(stops, this_process(), "stopped", "SIGTERM")
    assert state(stops) == ("stopped", "SIGTERM")
    assert state(stops, {stops: "PENDING"}) == ("waiting", "its job is pending"), "preempted, and will go on"
    attempts.claim(silent, ELSEWHERE, 0)
    assert state(silent) == ("running", "")
    then = time.time() - attempts.LEASE_SECONDS - 1
    os.utime(attempts.path_of(silent, 1), (then, then))
    assert state(silent) == ("stopped", "its process on node7 is gone")
    (silent / attempts.CANCELLED).touch()
    assert state(silent) == ("cancelled", "")


def test_relaunched_failure_is_waiting(tmp_path):
    again = run(tmp_path, "again")
    end(again, this_process(), "failed", "first")
    write_launched(again, slurm.NAME, "7_1", 1)
    assert state(again, {again: "PENDING"}) == ("waiting", "its job is pending")
    attempts.end(again, attempts.claim(again, this_process(), 1), "failed", 1, "second")
    assert state(again, {again: "COMPLETING"}) == ("failed", "second")


@pytest.mark.parametrize("hours", [-1000, 1000])
@pytest.mark.parametrize("launcher", [slurm.NAME, submit_line.NAME])
def test_submission_by_another_clock(tmp_path, hours, launcher):
    """Attempts are counted: the clock of the machine that submitted the run may be wrong."""
    folder = run(tmp_path, "run")
    end(folder, this_process(), "failed", "first")
    write_launched(folder, launcher, "7_1", 1)
    path = folder / launched.FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"time": time.time() + 3600 * hours}))
    before = state(folder)
    attempts.end(folder, attempts.claim(folder, this_process(), 1), "failed", 1, "second")
    assert before == (("failed", "first") if launcher == slurm.NAME else ("submitted", ""))
    assert state(folder) == ("failed", "second")


def test_remaining_time_uses_observed_pace(tmp_path):
    """10 s for 2 FLOPs, so 15 s for the 3 that wait; failed and stopped runs do not count."""
    done, waits, fails = run(tmp_path, "a", wall_seconds=10.0), run(tmp_path, "b"), run(tmp_path, "c")
    end(fails, this_process(), "failed")
    jobs = [Job(done, 2.0, 100), Job(waits, 3.0, 100), Job(fails, 50.0, 100)]
    found = states.states_of([job.folder for job in jobs], {})
    assert states.counts(jobs, found) == "1 done, 1 failed, 1 waiting; about 0:15 to go"


@pytest.mark.parametrize("terminal", [False, True])
def test_watch_reports_changes(tmp_path, monkeypatch, terminal):
    monkeypatch.setattr(states, "LOOK_SECONDS", 0)
    monkeypatch.setattr(slurm, "queued", lambda folders: {})
    fails, looks = run(tmp_path, "fails"), []

    def until(found, answered):
        looks.append(found[fails].state)
        if len(looks) == 3:
            end(fails, this_process(), "failed", "the reason")
        return answered and found[fails].state == "failed"

    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    assert states.watch([Job(fails, 1.0, 9)], until, console)
    assert looks == ["waiting"] * 3 + ["failed"]
    said = console.file.getvalue()
    assert ("the reason" in said) == terminal
    if not terminal:
        assert said.splitlines() == ["1 waiting", "1 failed"]


def test_ctrl_c_ends_only_the_watch(tmp_path, monkeypatch):
    def interrupted(found, answered):
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "queued", lambda folders: {})
    assert not states.watch([Job(run(tmp_path, "a"), 1.0, 9)], interrupted, Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", None),
        ("slurm_load_jobs error: Invalid job id specified", {}),
    ],
)
def test_silent_controller_is_not_empty_queue(monkeypatch, error, found):
    monkeypatch.setattr(slurm, "_slurm", lambda *words: subprocess.CompletedProcess(words, 1, "", error))
    assert slurm.states(["7_0"]) == found
