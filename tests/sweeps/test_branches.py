"""Sweeps whose runs branch off trunks: what they cost, what they give, and in which order they train."""

import os
import pathlib
import re
import signal
import sys
import textwrap

import pytest
from ml_collections import ConfigDict

from mdlm_jax.cli.main import main
from mdlm_jax.costs.counters import COUNTERS
from mdlm_jax.errors import UserError
from mdlm_jax.report.shared_cost import shared_cost
from mdlm_jax.report.study import make_study
from mdlm_jax.report.text.methods import methods
from mdlm_jax.runs import attempts
from mdlm_jax.runs.loop import train_all
from mdlm_jax.runs.result import read_result
from mdlm_jax.runs.saved import saved_steps
from mdlm_jax.sweeps import launch, launchers, live, sweep
from mdlm_jax.sweeps.branches import branched, cost_of, plan_experiment
from mdlm_jax.sweeps.experiment import Experiment, load_experiment
from mdlm_jax.sweeps.launch import Job, Slot, run_pool
from mdlm_jax.sweeps.plan import plan_runs, plan_table
from tests.report.fake_run import CHILD, COMMAND
from tests.run_folders import ROOT, TINY
from tests.runs.here import assert_same_state, config_of, interrupt, losses_of, signals_as_before
from tests.sweeps.test_experiment import column, write
from tests.sweeps.test_launch import folders, started
from tests.sweeps.test_sweep import status

WSD = {"optim__decay": "wsd", "optim__warmup_share": 0.0, "optim__wsd_form": "minus_sqrt", "optim__final": 0.3}
STEPS = (10, 20, 35)
ANY_CORE = Slot(frozenset(), {})


def grid(steps=STEPS, **keys) -> list[ConfigDict]:
    return [config_of(steps=number, **WSD | keys) for number in steps]


def experiment_of(configs, labels=()) -> Experiment:
    return Experiment(pathlib.Path("study.py"), "A study", configs, labels, branch=True)


def trained(configs, folder, programs):
    """Trains runs one after another, as a worker does."""
    for name, config in configs.items():
        with signals_as_before():
            train_all([config], [folder / name], programs=programs)


@pytest.mark.few(1)
@pytest.mark.parametrize("objective", ["masked", "ar"])
def test_branches_equal_runs_from_scratch(tmp_path, objective):
    """Losses, parameters and validation are the same bit by bit, and the results record the planned FLOPs."""
    experiment = experiment_of(grid(objective__name=objective, optim__ema=0.9))
    planned, programs = plan_experiment(experiment), {}
    trunk, *branches = planned
    assert [run.birth_step for run in planned] == [0, 9, 18, 31] and trunk.steps == 31
    sweep.prepare(planned, tmp_path / "branches")
    trained({run.run_id: run.config for run in planned}, tmp_path / "branches", programs)
    trained(dict(zip(experiment.run_ids, experiment.configs, strict=True)), tmp_path / "alone", programs)
    assert len(programs) == 2
    for run in branches:
        one, other = tmp_path / "branches" / run.run_id, tmp_path / "alone" / run.run_id
        own = losses_of(one)
        assert losses_of(tmp_path / "branches" / trunk.run_id)[: run.birth_step] + own == losses_of(other)
        assert_same_state(one, other)
        results = [read_result(folder / "result.json") for folder in (one, other)]
        assert len({(result.loss, result.tokens, result.steps, *result.flops.values()) for result in results}) == 1
        assert (results[0].parent, results[0].birth_step) == (trunk.run_id, run.birth_step)
    recorded = [read_result(tmp_path / "branches" / run.run_id / "result.json").own_flops for run in planned]
    for counter in COUNTERS:
        assert sum(result[counter] for result in recorded) == sum(getattr(run.flops, counter) for run in planned)
    found, problems = sweep.collect(experiment, tmp_path / "branches")
    assert [result.run_id for result in found] == experiment.run_ids and not problems
    cost = shared_cost(found, "exact")
    assert cost == cost_of(planned) and (cost.trunks, cost.branches) == (1, 3)
    assert cost.sentence in " ".join(methods(make_study(found, problems, {})))
    alone = [read_result(tmp_path / "alone" / name / "result.json") for name in experiment.run_ids]
    assert shared_cost(alone, "exact") is None and sum(run.flops["exact"] for run in alone) == cost.alone

    for step in (0, 31):  # a kill before the branch's first checkpoint, and a kill of the trunk after its last one
        last = branches[-1] if step == 0 else trunk
        interrupt(tmp_path / "branches" / last.run_id, step)
        trained({last.run_id: last.config}, tmp_path / "branches", programs)
    one, other = tmp_path / "branches" / branches[-1].run_id, tmp_path / "alone" / branches[-1].run_id
    assert_same_state(one, other)


@pytest.mark.parametrize("steps", ["0", "5,x", "-1", "99999999999", "1.5", "\u0663"])
def test_unreadable_steps_are_refused(tmp_path, steps):
    with pytest.raises(UserError, match="config.train.checkpoint_at is .*; accepted: steps from 1 on by commas"):
        plan_runs([config_of(train__checkpoint_at=steps)])


def test_trunk_keeps_all_births(tmp_path):
    """Also those that later checkpoints would replace, and after a kill between two of them."""
    config = config_of(steps=12, train__checkpoint_at="2,3,9", train__checkpoint_every=4, objective__name="ar")
    programs = {}
    trained({"run": config}, tmp_path, programs)
    assert saved_steps(tmp_path / "run" / "checkpoints") == [2, 3, 9, 12]
    interrupt(tmp_path / "run", 3)
    trained({"run": config}, tmp_path, programs)
    assert saved_steps(tmp_path / "run" / "checkpoints") == [2, 3, 9, 12]
    with pytest.raises(UserError, match="checkpoint_at is '13'; accepted: steps up to 12, the last one of the run"):
        trained({"other": config_of(steps=12, train__checkpoint_at="13")}, tmp_path, programs)


def test_ratio_has_a_closed_form():
    """Lengths T, 2T, .. nT with a tenth of decay: the trunk takes 0.9 nT steps and the branches 0.1 (T + .. + nT)."""
    for n in (2, 3, 6):
        whole = plan_runs(grid([100 * i for i in range(1, n + 1)]))
        planned = branched(whole, "study.py")
        spent, alone = (sum(run.flops.exact for run in runs) for runs in (planned, whole))
        assert spent / alone == pytest.approx(0.1 + 0.9 * n / (n * (n + 1) / 2))
        assert [run.tokens for run in planned[1:]] == [run.tokens for run in whole]
        assert sum(run.steps - run.birth_step for run in planned) * whole[0].step.flops_per_step.exact == spent


def test_documented_cost(tmp_path):
    """The experiment of the guide costs what the guide says."""
    page = (ROOT / "docs" / "how-to" / "sweeps.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"\n((?:    .*\n|\n)+)", page[page.index("TITLE =") - 10 : page.index("Of all configs that")])
    path = write(tmp_path, "from mdlm_jax.configs import base\n" + textwrap.dedent(block))
    planned = plan_experiment(load_experiment(path))
    assert f"\n    {cost_of(planned).sentence}\n" in page
    assert column(plan_table(planned), "from step")[:2] == ["", "2,232"]


def test_one_trunk_for_runs_that_differ_in_length():
    configs = [
        config
        for seed in (0, 1)
        for objective in ("ar", "masked")
        for config in grid(seed=seed, objective__name=objective)
    ]
    planned = plan_experiment(experiment_of([*configs, *grid([50], optim__lr=0.5)]))
    trunks = [run for run in planned if run.config.train.checkpoint_at]
    assert [run.run_id for run in trunks] == [
        f"trunk-{name}-4k-lr0.01-seed{seed}" for seed in (0, 1) for name in ("ar", "masked")
    ]
    for run in trunks:
        assert (run.config.optim.decay, run.config.train.checkpoint_at) == ("constant", "9,18,31")
        assert (run.warmup_steps, run.steps) == (2, 31)
    alone = planned[-1]
    assert (alone.config.branch_from, alone.birth_step, alone.flops.exact) == (
        "",
        0,
        50 * alone.step.flops_per_step.exact,
    )
    assert planned[1].config.branch_from == "trunk-ar-4k-lr0.01-seed0@9"


def test_budgets_share_a_trunk():
    flops = plan_runs(grid())[0].step.flops_per_step.exact
    configs = [config_of(budget=float(flops * steps), **WSD) for steps in STEPS]
    planned = plan_experiment(experiment_of(configs))
    assert [run.birth_step for run in planned] == [0, 9, 18, 31]
    assert planned[0].run_id == "trunk-masked-4k-lr0.01-seed0"


MISTAKES = [
    ("config.optim.decay is 'cosine'; accepted: wsd, where BRANCH is True", [{"optim__decay": "cosine"}]),
    (
        "15 steps, of which 2 warm up and 14 decay; accepted: a budget or steps for more",
        [{}, {"steps": [15], "optim__wsd_steps": 14}],
    ),
    ("seed0: 12 steps, of which 30 warm up", [{"steps": [11, 12], "optim__warmup_min": 30}]),
    (
        "two runs of one trunk have 20 steps; accepted: budgets or steps that differ",
        [{}, {"steps": [20], "optim__wsd_steps": 3}],
    ),
    ("runs of one trunk warm up for 2 to 7 steps; accepted: one number", [{"optim__warmup_share": 0.2}]),
    (
        "a warm-up of 16 steps; accepted: at most half of the 31 steps of the trunk",
        [{"steps": [34, 35], "optim__warmup_min": 16}],
    ),
    ("study.py: BRANCH is True, and no two runs differ in length alone", [{"steps": [20]}]),
    ("config.branch_from is 'a@5'; accepted: nothing, where BRANCH is True", [{"branch_from": "a@5"}]),
]


@pytest.mark.parametrize(("message", "grids"), MISTAKES)
def test_impossible_branches_are_refused(message, grids):
    with pytest.raises(UserError, match=message):
        plan_experiment(experiment_of([config for keys in grids for config in grid(**keys)]))


def test_label_of_a_trunk_is_refused():
    with pytest.raises(UserError, match="a run is called 'trunk-masked-4k-lr0.01-seed0', as a trunk is"):
        plan_experiment(experiment_of(grid(), ("a", "b", "trunk-masked-4k-lr0.01-seed0")))


STUDY = f"""
'''Three lengths.'''
from mdlm_jax.configs import base

TITLE, BRANCH = "lengths", True

def grid():
    configs = []
    for steps in (10, 20, 35):
        config = base.get_config()
        keys = { ({key.replace("__", "."): value for key, value in WSD.items()})!r}
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
        run_pool(starting, [ANY_CORE] * 2, launchers.is_done, disturb)

    left = sweep.run(experiment, folder, launcher)
    for _ in range(2):
        left = sweep.run(experiment, folder, launcher, (*sweep.FAILED, *sweep.MISSING)) if left.done < 3 else left
    assert left == sweep.Summary(done=3, failed=0, left=0) and len(killed) == 2
    trained(dict(zip(experiment.run_ids, experiment.configs, strict=True)), tmp_path / "alone", {})
    for name in experiment.run_ids:
        one, other = folder / name, tmp_path / "alone" / name
        assert_same_state(one, other)
        assert read_result(one / "result.json").loss == read_result(other / "result.json").loss
