"""Sweeps on a real SLURM: a controller and two nodes on this machine, started by .ci/slurm."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest

from mdlm_jax.runs import attempts
from mdlm_jax.sweeps import sweep
from mdlm_jax.sweeps.experiment import load_experiment
from mdlm_jax.sweeps.names import run_id
from mdlm_jax.sweeps.plan import plan_runs
from tests import run_folders as runs
from tests.cli.test_main import mdlm_jax

TRAIN = (sys.executable, str(runs.ROOT / "tests" / "sweeps" / "hindered_train.py"))
# `sweep run` of the command line, with another command than training alone
CONTROLLER = f"""
import pathlib, sys
from mdlm_jax.sweeps import launchers, slurm, sweep
from mdlm_jax.sweeps.experiment import load_experiment
path, folder, chosen, *resources = sys.argv[1:]
launcher = launchers.by_slurm(slurm.parse_resources(resources), {TRAIN!r})
print(sweep.run(load_experiment(path), pathlib.Path(folder), launcher, (chosen,)))
"""
STEPS, LONG = 40, 1_000


@pytest.fixture(autouse=True)
def slurm():
    """SLURM, for one test at a time."""
    if shutil.which("slurmctld") is None or os.geteuid():
        pytest.skip("SLURM is not here: Debian's slurm-wlm and munge, started by root")
    with (pathlib.Path(tempfile.gettempdir()) / "mdlm-jax-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = subprocess.run([runs.ROOT / ".ci" / "slurm"], capture_output=True, text=True)
        if started.returncode:
            pytest.skip(f"SLURM did not start: {started.stdout.strip()}")
        yield
        # a test that failed leaves no jobs to the next
        subprocess.run(["scancel", "--user=root"], check=True)
        wait_for(lambda: not in_queue("PENDING,RUNNING,COMPLETING"))


def scontrol(*words: str) -> None:
    subprocess.run(["scontrol", *words], check=True, capture_output=True)


def in_queue(state: str) -> list[str]:
    asked = subprocess.run(["squeue", "-h", "-r", "-t", state, "-o", "%i"], capture_output=True, text=True, check=True)
    return asked.stdout.split()


def write_experiment(parent: pathlib.Path, body: str) -> pathlib.Path:
    """`body` makes `keys`, one dict of dotted keys a run."""
    (parent / "experiments").mkdir()
    path = parent / "experiments" / "study.py"
    head = (
        f'import sys\nsys.path.insert(0, {str(runs.ROOT)!r})\nfrom mdlm_jax.configs import base\nTITLE = "Study"\n\n\n'
    )
    path.write_text(
        head
        + textwrap.dedent(f"""
            def grid():
                found = []
                for keys in {body}:
                    config = base.get_config()
                    config.update_from_flattened_dict({runs.TINY!r} | keys)
                    found.append(config)
                return found
        """)
    )
    return path


def controller(experiment, folder, chosen="waiting", *resources) -> subprocess.Popen:
    words = [sys.executable, "-c", CONTROLLER, str(experiment), str(folder), chosen, *resources]
    return subprocess.Popen(words, env=runs.environment(), cwd=runs.ROOT, stdout=subprocess.PIPE, text=True)


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)
    return found


def kill_the_daemon() -> None:
    """SLURM's own controller, killed and started again. What it knows it writes within five seconds: killed earlier it
    would start a job that began meanwhile twice, and drain the node for that.
    """
    time.sleep(6)
    daemon = int(pathlib.Path("/run/slurmctld.pid").read_text())
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: not pathlib.Path(f"/proc/{daemon}").exists())
    subprocess.run(["slurmctld"], check=True)
    wait_for(lambda: subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0)


def done(folder):
    return [path for path in folder.glob("*/attempts/*.json") if json.loads(path.read_text())["outcome"] == "done"]


def steps_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_24_runs_survive_faults(tmp_path):
    """The controllers die, a node drains and a run is preempted; still every run takes each step once."""
    experiment = write_experiment(
        tmp_path, f'[{{"seed": seed, "steps": {LONG} if seed == 5 else {STEPS}}} for seed in range(24)]'
    )
    folder, configs = tmp_path / "runs", load_experiment(experiment).configs
    names = [run_id(config) for config in configs]
    sweep.prepare(plan_runs(configs), folder)
    (folder / names[7] / "poison").touch()
    (folder / names[5] / "hold").touch()  # it runs for eight minutes, or until this is gone
    first = controller(experiment, folder)

    wait_for(lambda: first.poll() is None and len(done(folder)) >= 2)
    first.kill()  # who watches
    first.communicate()

    long = folder / names[5]
    job = json.loads((long / "launched.json").read_text())["job"]
    host = subprocess.run(["hostname", "-s"], capture_output=True, text=True, check=True).stdout.strip()
    scontrol("update", f"nodename={host}", "state=drain", "reason=test")
    wait_for(lambda: in_queue("RUNNING,COMPLETING") == [job])
    kill_the_daemon()
    assert in_queue("RUNNING") == [job] and steps_of(long)
    scontrol("requeue", job)
    wait_for(lambda: not in_queue("RUNNING,COMPLETING"))
    (long / "hold").unlink()
    scontrol("update", f"jobid={job}", "starttime=now")  # SLURM would wait for two minutes
    before = len(done(folder))
    assert in_queue("PENDING")
    wait_for(lambda: "pending (" in mdlm_jax("sweep", "status", str(experiment), "--folder", str(folder)))  # and why
    second = controller(experiment, folder)  # nothing is submitted again: SLURM has it all
    time.sleep(3)
    assert len(done(folder)) == before and not in_queue("RUNNING")
    scontrol("update", f"nodename={host}", "state=resume")

    out, _ = second.communicate(timeout=600)
    assert "submitted to SLURM" not in out
    assert out.splitlines()[-1] == "Summary(done=23, failed=1, left=0)"
    last = {name: attempts.last_attempt(folder / name) for name in names}
    assert [name for name in names if last[name].outcome != "done"] == [names[7]]
    assert last[names[7]].cause.startswith("step 20: loss nan, ")
    # the one that was preempted saved, and went on from there
    assert {name: attempt.number for name, attempt in last.items() if attempt.number > 1} == {names[5]: 2}
    assert json.loads(attempts.path_of(long, 1).read_text())["outcome"] == "stopped"
    for name, config in zip(names, configs, strict=True):
        if name != names[7]:
            assert steps_of(folder / name) == list(range(1, config.steps + 1)), "each step once"

    status = mdlm_jax("sweep", "status", str(experiment), "--folder", str(folder))
    (line,) = [line for line in status.splitlines() if " failed " in line]
    assert line.startswith(names[7]) and "step 20: loss nan" in line
    assert "23 done, 1 failed" in status

    third = controller(experiment, folder, "failed")
    assert third.communicate(timeout=300)[0].splitlines()[-1] == "Summary(done=24, failed=0, left=0)"
    assert attempts.last_attempt(folder / names[7]).number == 2
    assert sum(attempts.count(folder / name) for name in names) == 26


@pytest.mark.slow
@pytest.mark.parametrize("resources", [("ntasks=2",), ("nodes=2", "partition=both")], ids=["tasks", "nodes"])
def test_two_tasks_train_one_run(tmp_path, resources):
    experiment = write_experiment(tmp_path, '[{"steps": 20}]')
    out, _ = controller(experiment, tmp_path / "runs", "waiting", *resources).communicate(timeout=300)
    assert out.splitlines()[-1] == "Summary(done=1, failed=0, left=0)"
    (run,) = (tmp_path / "runs").glob("*/result.json")
    assert json.loads(run.read_text())["device"].startswith("2 x ")
    assert attempts.count(run.parent) == 1
    assert steps_of(run.parent) == list(range(1, 21))


@pytest.mark.slow
def test_cancelled_runs_save(tmp_path):
    """They leave the queue too."""
    experiment = write_experiment(tmp_path, '[{"seed": seed, "steps": 100_000} for seed in range(6)]')
    folder = tmp_path / "runs"
    watching = controller(experiment, folder)
    wait_for(lambda: len([run for run in folder.glob("*/metrics.jsonl") if steps_of(run.parent)]) == 4)
    assert "6 runs cancelled" in mdlm_jax("sweep", "cancel", str(experiment), "--folder", str(folder))
    wait_for(lambda: not in_queue("all"))
    assert watching.communicate(timeout=60)[0].splitlines()[-1] == "Summary(done=0, failed=0, left=6)"
    assert sorted(attempts.count(run) for run in folder.glob("mask*")) == [0, 0, 1, 1, 1, 1]
    for run in folder.glob("*/metrics.jsonl"):
        assert "state saved" in (run.parent / "log.txt").read_text()
    assert "6 cancelled" in mdlm_jax("sweep", "status", str(experiment), "--folder", str(folder))


@pytest.mark.slow
def test_preempted_two_node_run_resumes(tmp_path):
    experiment = write_experiment(tmp_path, f'[{{"steps": {LONG}}}]')
    watching = controller(experiment, tmp_path / "runs", "waiting", "nodes=2", "partition=both")
    (run,) = wait_for(lambda: [path.parent for path in tmp_path.glob("runs/*/metrics.jsonl") if steps_of(path.parent)])
    job = json.loads((run / "launched.json").read_text())["job"]
    scontrol("requeue", job)
    wait_for(lambda: job in in_queue("PENDING") and not in_queue("COMPLETING"))
    scontrol("update", f"jobid={job}", "starttime=now")
    out, _ = watching.communicate(timeout=300)
    assert out.splitlines()[-1] == "Summary(done=1, failed=0, left=0)"
    first, last = json.loads(attempts.path_of(run, 1).read_text()), attempts.last_attempt(run)
    assert (first["outcome"], first["exit_code"], last.number, last.outcome) == ("stopped", 0, 2, "done")
    assert json.loads((run / "result.json").read_text())["device"].startswith("2 x ")
    assert steps_of(run) == list(range(1, LONG + 1)), "each step once"


@pytest.mark.slow
def test_allocations_share_runs(tmp_path):
    """Two jobs train nine runs, two at once in each, in processes that are kept; both jobs are preempted and go on."""
    keys = "{'seed': seed, 'steps': 20_000 if seed < 2 else 40}"
    experiment, folder = write_experiment(tmp_path, f"[{keys} for seed in range(9)]"), tmp_path / "runs"
    words = ("sweep", "run", experiment, "--folder", folder, "--slurm", "cpus-per-task=2", "--allocations", "2")
    watching = subprocess.Popen(
        [sys.executable, "-m", "mdlm_jax", *map(str, words)],
        env=runs.environment(),
        cwd=runs.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(done(folder)) == 7)
    (array,) = {json.loads(path.read_text())["job"] for path in folder.glob("*/launched.json")}
    parent = array.partition("_")[0]
    assert array == f"{parent}_[0-1]" and sorted(in_queue("RUNNING")) == [f"{parent}_0", f"{parent}_1"]
    assert "2 running" in mdlm_jax("sweep", "status", str(experiment), "--folder", str(folder))
    for job in (f"{parent}_0", f"{parent}_1"):
        scontrol("requeue", job)
    wait_for(lambda: len(in_queue("PENDING")) == 2 and not in_queue("COMPLETING"))
    for job in in_queue("PENDING"):
        scontrol("update", f"jobid={job}", "starttime=now")
    out, _ = watching.communicate(timeout=300)
    assert f"9 runs submitted to SLURM in 2 allocations, from {parent}_0" in out
    assert "9 runs done, 0 failed" in out.splitlines()[-1]
    for run in folder.glob("*/result.json"):
        steps = 20_000 if run.parent.name.endswith(("seed0", "seed1")) else 40
        assert steps_of(run.parent)[-1] == steps and attempts.count(run.parent) == (2 if steps > 40 else 1)
    owners = [json.loads(path.read_text())["owner"]["pid"] for path in folder.glob("*/attempts/1.json")]
    assert len(set(owners)) <= 4, "a worker for each slot"
