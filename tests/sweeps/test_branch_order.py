"""In which order trunks and branches train, and what becomes of branches whose trunk fails, is killed or cancelled."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from mdlm_jax.cli.main import main
from mdlm_jax.runs import attempts, finished
from mdlm_jax.runs.result import read_result
from mdlm_jax.runs.saved import saved_steps
from mdlm_jax.sweeps import launch, launchers, live, slurm, sweep, work
from mdlm_jax.sweeps.branches import plan_experiment
from mdlm_jax.sweeps.experiment import load_experiment
from mdlm_jax.sweeps.launch import Job, Slot, run_pool
from tests.report.fake_run import CHILD, COMMAND
from tests.run_folders import TINY
from tests.runs.here import assert_same_state
from tests.sweeps.test_branches import WSD, experiment_of, grid, trained
from tests.sweeps.test_experiment import write
from tests.sweeps.test_launch import folders, started
from tests.sweeps.test_sweep import status

ANY_CORE = Slot(frozenset(), {})

STUDY = f"""
'''Three lengths.'''
from mdlm_jax.configs import base

TITLE, BRANCH = "lengths", True

def grid():
    configs = []
    for steps in (10, 20, 35):
        config = base.get_config()
        keys = {{key.replace("__", "."): value for key, value in {WSD!r}.items()}}
        config.update_from_flattened_dict({TINY!r} | keys | {{"steps": steps, "objective.name": "ar"}})
        configs.append(config)
    return configs
"""
NAMES = ["ar-10steps-4k-lr0.01-seed0", "ar-20steps-4k-lr0.01-seed0", "ar-35steps-4k-lr0.01-seed0"]
TRUNK = "trunk-ar-4k-lr0.01-seed0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STUDY.replace('"lengths", True', '"lengths", "yes"'), "BRANCH is 'yes'; accepted: True or False"),
        (STUDY.replace("(10, 20, 35)", "(10, 3, 2)"), "3 steps, of which 2 warm up and 1 decay"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, text, message):
    path = write(tmp_path, text)
    for verb in (["plan"], ["run", "--folder", str(tmp_path / "runs")]):
        with pytest.raises(SystemExit) as ended:
            main(["sweep", verb[0], str(path), *verb[1:]])
        assert ended.value.code == 2 and message in "".join(capsys.readouterr())
    assert not (tmp_path / "runs").exists()


# As the pool's child in test_launch.py: of each run it writes to `order` which checkpoints it finds.
POOL_CHILD = """
import pathlib, sys, time
run = pathlib.Path(sys.argv[1])
trunk = run.parent / "trunk"
found = sorted(path.name for path in trunk.glob("checkpoints/*"))
with open(run.parent / "order", "a") as order:
    order.write(",".join([run.name, *found]) + "\\n")
if run.name == "trunk":
    for step in "12":
        (run / "checkpoints" / step).mkdir(parents=True)
        while (run / "fails").exists() or (step == "1" and not (run.parent / "b1" / "done").exists()):
            if (run / "fails").exists():
                sys.exit("out of luck")
            time.sleep(0.02)
(run / "done").touch()
(run / "result.json").write_text('{"status": "done"}')
"""


def branching_jobs(parent, **marks):
    trunk, *branches = folders(parent, "trunk", "b1", "b2", **marks)
    births = [Job(path, 9.0, 9, parent=trunk, birth_step=step) for step, path in enumerate(branches, 1)]
    return [*reversed(births), Job(trunk, 1.0, 1)]


def pool(jobs, workers, watch=lambda snapshot: None):
    command = (sys.executable, "-S", "-c", POOL_CHILD)
    is_done = lambda run: (run / "done").exists()  # noqa: E731
    return {run.job.folder.name: run for run in run_pool(jobs, [ANY_CORE] * workers, is_done, watch, command)}


def test_branch_starts_at_its_checkpoint(tmp_path):
    """With two workers, the trunk waits until the first branch is done: the branch starts at its checkpoint."""
    ended = pool(branching_jobs(tmp_path), 2)
    assert {run.outcome for run in ended.values()} == {"done"}
    trunk, first, second = started(tmp_path)
    assert trunk == "trunk" and first == "b1,1" and second.startswith("b2,1,2")


def test_branches_fail_with_their_trunk(tmp_path):
    """A checkpoint that was saved before is used; the other branch does not start, and says why."""
    ended = pool(branching_jobs(tmp_path, fails="trunk"), 1)
    assert {name: run.outcome for name, run in ended.items()} == {"trunk": "failed", "b1": "done", "b2": "failed"}
    cause = "trunk failed, whose step 2 it continues: exit code 1: out of luck"
    assert ended["b2"].cause == cause and attempts.count(tmp_path / "b2") == 0
    assert live.describe_end(ended["b2"]) == f"failed   b2: {cause}"


def test_branch_without_trunk_does_not_wait(tmp_path):
    """Of a trunk that was stopped, or belongs to nobody."""
    second, first, _ = branching_jobs(tmp_path)
    (tmp_path / "trunk" / "checkpoints" / "1").mkdir(parents=True)
    ended = pool([second, first], 2)
    assert {name: run.outcome for name, run in ended.items()} == {"b1": "done", "b2": "stopped"}
    assert ended["b2"].cause == "trunk is not trained, whose step 2 it continues"


@pytest.fixture
def two_workers(monkeypatch):
    monkeypatch.setattr(launch, "slots", lambda workers: [ANY_CORE] * 2)


def starts(folder):
    return {name: attempts.last_attempt(folder / name).started for name in [TRUNK, *NAMES]}


def test_status_retry_and_cancel(tmp_path, two_workers):
    experiment, folder = load_experiment(write(tmp_path, STUDY)), tmp_path / "runs"
    run = lambda *chosen: sweep.run(experiment, folder, launchers.local(command=COMMAND), *chosen)  # noqa: E731
    planned = plan_experiment(experiment)
    sweep.prepare(planned, folder)
    assert set(status(folder)["state"].values()) == {"waiting"}
    assert status(folder)["cause"][NAMES[0]] == f"for step 9 of {TRUNK}"
    assert sweep.cancel(folder) == 4 and set(status(folder)["state"].values()) == {"cancelled"}
    (folder / TRUNK / "fails").touch()
    assert run() == sweep.Summary(done=0, failed=4, left=0)
    assert set(status(folder)["state"].values()) == {"failed"}
    cause = f"{TRUNK} failed, whose step 18 it continues: exit code 3: the last words"
    assert status(folder)["cause"][NAMES[1]] == cause
    assert run() == sweep.Summary(done=0, failed=4, left=0)
    (folder / TRUNK / "fails").unlink()
    assert run(sweep.FAILED) == sweep.Summary(done=4, failed=0, left=0)
    assert [attempts.count(folder / name) for name in (TRUNK, *NAMES)] == [2, 1, 1, 1]
    begun = starts(folder)
    assert min(begun, key=begun.get) == TRUNK
    moved = folder.rename(tmp_path / "moved")
    assert sweep.run(experiment, moved, launchers.local(command=COMMAND)) == sweep.Summary(done=4, failed=0, left=0)
    assert [attempts.count(moved / name) for name in (TRUNK, *NAMES)] == [2, 1, 1, 1]


def test_branches_are_submitted_after_their_trunk(tmp_path, capsys):
    """Without the trunk's checkpoint they are not submitted."""
    experiment, folder = load_experiment(write(tmp_path, STUDY)), tmp_path / "runs"
    launcher = launchers.by_line("{command} > /dev/null 2>&1 &", (sys.executable, "-S", "-c", CHILD))
    (folder / TRUNK).mkdir(parents=True)
    (folder / TRUNK / "fails").touch()
    assert sweep.run(experiment, folder, launcher) == sweep.Summary(done=0, failed=4, left=0)
    told = capsys.readouterr().out
    assert "1 runs submitted" in told and "3 branches are submitted when they can start" in told
    (folder / TRUNK / "fails").unlink()
    assert sweep.run(experiment, folder, launcher, sweep.FAILED) == sweep.Summary(done=4, failed=0, left=0)
    assert "3 runs submitted" in capsys.readouterr().out
    begun = starts(folder)
    assert min(begun, key=begun.get) == TRUNK


def test_slurm_gets_branches_later(tmp_path, monkeypatch):
    """An array of the trunk, then one of the branches."""
    experiment, folder, arrays = load_experiment(write(tmp_path, STUDY)), tmp_path / "runs", []

    def submit(_, jobs, resources, command):
        arrays.append([job.folder.name for job in jobs])
        for job in jobs:
            subprocess.run(work.work_command(job.runs, command=command), check=True)
        return ["7"]

    monkeypatch.setattr(slurm, "submit", submit)
    assert sweep.run(experiment, folder, launchers.by_slurm({}, COMMAND)) == sweep.Summary(done=4, failed=0, left=0)
    assert arrays == [[TRUNK], NAMES]


@pytest.mark.slow
def test_killed_branches_equal_runs_from_scratch(tmp_path):
    """SIGKILL of the process in the trunk and in the last branch; `retry` completes both, bit by bit."""
    keys = {"objective__name": "ar", "train__checkpoint_every": 40, "train__log_every": 20}
    experiment, folder = experiment_of(grid([60, 300], **keys)), tmp_path / "runs"
    killed = set()

    def disturb(snapshot):
        for it in snapshot.running:
            name, steps = it.job.folder.name, saved_steps(it.job.folder / "checkpoints")
            if name.startswith("trunk") and name not in killed and steps or "300" in name and name not in killed:
                children = pathlib.Path(f"/proc/{it.process.pid}/task/{it.process.pid}/children").read_text()
                if children:
                    killed.add(name)
                    os.kill(int(children), signal.SIGKILL)

    def launcher(_, starting, jobs):
        run_pool(starting, [ANY_CORE] * 2, finished.is_done, disturb)

    left = sweep.run(experiment, folder, launcher)
    for _ in range(2):
        left = sweep.run(experiment, folder, launcher, (*sweep.FAILED, *sweep.MISSING)) if left.done < 3 else left
    assert left == sweep.Summary(done=3, failed=0, left=0) and len(killed) == 2
    trained(dict(zip(experiment.run_ids, experiment.configs, strict=True)), tmp_path / "alone", {})
    for name in experiment.run_ids:
        one, other = folder / name, tmp_path / "alone" / name
        assert_same_state(one, other)
        assert read_result(one / "result.json").loss == read_result(other / "result.json").loss
