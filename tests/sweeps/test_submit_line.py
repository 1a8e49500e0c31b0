"""Runs submitted with a scheduler's command line: here a shell that starts them in the background."""

import functools
import json
import pathlib
import re
import sys
import textwrap
import time

import pytest

from mdlm_jax.cli.main import main
from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.sweeps import launchers, states, submit_line, sweep
from mdlm_jax.sweeps.found import found_runs
from mdlm_jax.sweeps.launch import Job
from mdlm_jax.sweeps.names import run_id
from mdlm_jax.sweeps.plan import plan_runs
from tests import run_folders as runs
from tests.report.fake_run import CHILD, COMMAND
from tests.sweeps import test_sweep
from tests.sweeps.test_experiment import EXPERIMENT, write
from tests.sweeps.test_sweep import started

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
def test_invalid_line_is_refused(line, message):
    with pytest.raises(UserError, match=message):
        launchers.by_line(line)


def test_sweep_and_retry_by_line(tmp_path, experiment):
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


def test_rejected_submission_is_reported(tmp_path, experiment, capsys):
    folder = tmp_path / "runs"
    line = "case {run} in masked*) echo no such queue >&2; exit 4;; esac; " + IN_BACKGROUND
    found = sweep.run(experiment, folder, launchers.by_line(line, COMMAND))
    assert found == sweep.Summary(done=2, failed=0, left=2)
    out = capsys.readouterr().out
    assert "masked-1e11-4k-lr0.01-seed0 and 1 more: not submitted, exit code 4: no such queue" in out
    assert "2 runs submitted" in out


@pytest.mark.parametrize(
    ("line", "cause"), [("false {command}", "exit code 1;"), ("echo no; exit 7 # {command}", "exit code 7: no;")]
)
def test_a_line_that_always_fails(tmp_path, capsys, line, cause):
    path = write(tmp_path, EXPERIMENT)
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "run", str(path), "--folder", str(tmp_path / "runs"), "--submit", line])
    (told,) = "".join(capsys.readouterr()).splitlines()
    assert ended.value.code == 2
    assert (
        told
        == f"mdlm-jax: --submit={line!r}: no run was submitted, {cause} accepted: a line that ends with exit code 0"
    )


def test_submitted_run_is_not_resubmitted(tmp_path, experiment):
    """The queue never starts the runs; they are submitted again only after they are cancelled."""
    folder = tmp_path / "runs"
    sweep.prepare(plan_runs(experiment.configs), folder)
    jobs = found_runs(folder).jobs
    assert submit_line.submit(jobs, ": {command}") == {}
    assert {run.state for run in sweep.states(jobs).values()} == {"submitted"}
    assert sweep.cancel(folder) == 4
    assert {run.state for run in sweep.states(jobs).values()} == {"cancelled"}
    found = sweep.run(experiment, folder, launchers.by_line(IN_BACKGROUND, COMMAND))
    assert found == sweep.Summary(done=4, failed=0, left=0)


def test_pod_hosts_train_one_run(tmp_path):
    """The command starts on all hosts; the first claims the run, the others only train."""
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


# Stands in for a cluster: starts what a JobSet asks for, on all its machines.
KUBECTL = """#!/usr/bin/env python3
import os, subprocess, sys, yaml
job = yaml.safe_load(sys.stdin)["spec"]["replicatedJobs"][0]["template"]["spec"]
(container,) = job["template"]["spec"]["containers"]
for machine in range(job["parallelism"]):
    environment = os.environ | {"TPU_WORKER_ID": str(machine), container["env"][0]["name"]: "0"}
    subprocess.Popen(container["command"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


@functools.cache
def sweeps_page() -> str:
    return (runs.ROOT / "docs" / "how-to" / "sweeps.md").read_text(encoding="utf-8")


def test_documented_lines_are_valid():
    lines = re.findall(r"--submit '(.+?)'(?:$|`)", sweeps_page().replace("\\\n", ""), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        if line != "LINE":
            submit_line.check_line(line)


def test_documented_pod_trains_each_run_once(tmp_path, experiment, monkeypatch):
    """The documented JobSet and line, with processes of this machine as the four hosts."""
    block = re.search(r"`jobset.yaml`:\n\n((?:    .*\n)+)", sweeps_page()).group(1)
    (tmp_path / "jobset.yaml").write_text(textwrap.dedent(block))
    (tmp_path / "bin").mkdir()
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    child = tmp_path / "child.py"  # all four meet; the first writes the result, for which the others wait
    meeting = """
        import os, pathlib, sys, time
        run, place = pathlib.Path(sys.argv[-1]), os.environ["TPU_WORKER_ID"]
        with (run / "met").open("a") as met:
            met.write(place)
        while len((run / "met").read_text()) < 4 or (place != "0" and not (run / "result.json").exists()):
            time.sleep(0.02)
        if place != "0":
            sys.exit()
    """
    child.write_text(textwrap.dedent(meeting) + CHILD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{kubectl.parent}:{pathlib.Path(sys.executable).parent}", prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(runs.ROOT))
    (line,) = re.findall(r"--submit '(.*kubectl.*)'", sweeps_page())
    few, folder = experiment._replace(configs=experiment.configs[:2]), tmp_path / "runs"
    found = sweep.run(few, folder, launchers.by_line(line, (sys.executable, "-S", str(child))))
    assert found == sweep.Summary(done=2, failed=0, left=0)
    for config in few.configs:
        assert attempts.count(folder / run_id(config)) == 1
        assert sorted((folder / run_id(config) / "met").read_text()) == list("0123")
