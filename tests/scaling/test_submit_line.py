"""Runs given to a scheduler of one line: here a shell that starts them in the background."""

import json
import time

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.scaling import attempts, launchers, states, submit_line, sweep
from mdlm_jax.scaling.launch import Job
from mdlm_jax.scaling.plan import run_id
from tests.scaling import test_sweep
from tests.scaling.fake_run import COMMAND
from tests.scaling.test_sweep import started

experiment = test_sweep.experiment
IN_BACKGROUND = "{command} > /dev/null 2>&1 &"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sbatch train.sh", r"accepted: a line with {command}"),
        ("{command} {host}", r"accepted: a line with {command}, and {run}"),
        ("x=${HOME} {command}", r"accepted: a line with {command}"),
        ("{command", "expected '}' before end of string; a brace of the shell is written twice"),
    ],
)
def test_a_line_that_is_none(line, message):
    with pytest.raises(UserError, match=message):
        launchers.by_line(line)


def test_a_sweep_by_a_line_and_what_failed_again(tmp_path, experiment):
    folder, names = tmp_path / "runs", [run_id(config) for config in experiment.configs]
    failing = folder / names[1]
    failing.mkdir(parents=True)
    (failing / "fails").touch()
    launcher = launchers.by_line(IN_BACKGROUND, COMMAND)
    assert sweep.run(experiment, folder, launcher) == sweep.Summary(done=3, failed=1, left=0)
    assert attempts.last_attempt(failing).cause == "exit code 3: the last words"
    (failing / "fails").unlink()
    assert sweep.run(experiment, folder, launcher) == sweep.Summary(done=3, failed=1, left=0)
    assert sweep.run(experiment, folder, launcher, sweep.FAILED) == sweep.Summary(done=4, failed=0, left=0)
    assert sorted(started(folder)) == sorted([*names, names[1]])


def test_a_line_that_is_refused_is_reported_and_leaves_its_run(tmp_path, experiment, capsys):
    folder = tmp_path / "runs"
    line = "case {run} in masked*) echo no such queue >&2; exit 4;; esac; " + IN_BACKGROUND
    found = sweep.run(experiment, folder, launchers.by_line(line, COMMAND))
    assert found == sweep.Summary(done=2, failed=0, left=2)
    assert capsys.readouterr().out.count("not submitted, exit code 4: no such queue") == 2


def test_what_was_submitted_is_not_submitted_again_until_it_is_called_off(tmp_path, experiment):
    """A queue that never comes to them."""
    folder = tmp_path / "runs"
    sweep.prepare(sweep.plan_runs(experiment.configs), folder)
    jobs, _ = sweep.found_jobs(folder)
    assert submit_line.submit(jobs, ": {command}") == {}
    assert {run.state for run in sweep.states(jobs).values()} == {"submitted"}
    assert sweep.cancel(folder) == 4
    assert {run.state for run in sweep.states(jobs).values()} == {"cancelled"}
    found = sweep.run(experiment, folder, launchers.by_line(IN_BACKGROUND, COMMAND))
    assert found == sweep.Summary(done=4, failed=0, left=0)


def test_the_machines_of_a_pod_train_one_run_together(tmp_path):
    """The command starts on all of them; the first claims the run, the others only train."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    child = "import pathlib, sys, time; (pathlib.Path(sys.argv[-1]) / 'starts').open('a').write('x'); time.sleep(5)"
    pod = "for host in 1 2 3; do {command} > /dev/null 2>&1 & done"
    assert submit_line.submit([Job(run, 1.0, 1)], pod, ["python3", "-S", "-c", child]) == {}
    end = time.monotonic() + 60
    while not (run / "starts").exists() or len((run / "starts").read_text()) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert attempts.count(run) == 1
    launched = json.loads((run / "launched.json").read_text())
    assert attempts.last_attempt(run).owner.job == launched["job"]
    assert states.state_of(run, {}).state == "running"
