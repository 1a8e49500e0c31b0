"""Sweeps whose runs branch off trunks: what they cost, what they give, and in which order they train."""

import pathlib
import re
import textwrap

import pytest
from ml_collections import ConfigDict

from mdlm_jax.config import hash_of_stored, override, to_json
from mdlm_jax.costs.counters import COUNTERS
from mdlm_jax.errors import UserError
from mdlm_jax.report.shared_cost import shared_cost
from mdlm_jax.report.study import make_study
from mdlm_jax.report.text.methods import methods
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.loop import train, train_all
from mdlm_jax.runs.result import Result, read_result, write_result
from mdlm_jax.runs.saved import saved_steps
from mdlm_jax.sweeps import sweep
from mdlm_jax.sweeps.branches import branched, cost_of, plan_experiment
from mdlm_jax.sweeps.experiment import Experiment, load_experiment
from mdlm_jax.sweeps.found import found_runs
from mdlm_jax.sweeps.plan import plan_runs, plan_table
from mdlm_jax.sweeps.states import state_of
from tests.report.fake_run import FIELDS
from tests.run_folders import ROOT
from tests.runs.here import assert_same_state, config_of, interrupt, losses_of, signals_as_before
from tests.sweeps.test_experiment import column, write

WSD = {"optim__decay": "wsd", "optim__warmup_share": 0.0, "optim__wsd_form": "minus_sqrt", "optim__final": 0.3}
STEPS = (10, 20, 35)


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


@pytest.mark.slow
def test_longer_trunk_takes_a_larger_budget(tmp_path):
    """Extended by hand, as the guide says: the new branch equals the run from scratch, the others stay."""
    keys, programs = {"objective__name": "ar", "optim__final": 0.0}, {}
    short, long = (experiment_of(grid(steps, **keys)) for steps in ((10, 20), (10, 20, 40)))
    planned = plan_experiment(short)
    sweep.prepare(planned, tmp_path)
    trained({run.run_id: run.config for run in planned}, tmp_path, programs)
    trunk, *_, last = plan_experiment(long)
    assert (trunk.run_id, trunk.steps) == (planned[0].run_id, 36)
    with signals_as_before():
        train(
            override(config_of_run(tmp_path / trunk.run_id), ["--config.steps=36"]),
            tmp_path / trunk.run_id,
            extension="hold",
        )
    sweep.prepare(plan_experiment(long), tmp_path)
    assert {run.state for run in found_runs(tmp_path).states.values()} == {"done", "waiting"}
    trained({last.run_id: last.config}, tmp_path, programs)
    trained({last.run_id: long.configs[-1]}, tmp_path / "alone", programs)
    assert_same_state(tmp_path / last.run_id, tmp_path / "alone" / last.run_id)


def test_result_belongs_to_the_start_of_its_trunk(tmp_path):
    """A branch names no start: its trunk does."""
    first, other = (experiment_of(grid(start_from=f"{tmp_path}/{name}")) for name in "ab")
    sweep.prepare(plan_experiment(first), tmp_path / "runs")
    for name in first.run_ids:
        place = tmp_path / "runs" / name
        stored = hash_of_stored(place / "config.json")
        write_result(place, Result(**FIELDS)._replace(run_id=name, objective="masked", config_hash=stored, loss=2.0))
    assert len(sweep.collect(first, tmp_path / "runs")[0]) == len(STEPS)
    assert first.run_ids == other.run_ids and sweep.collect(other, tmp_path / "runs")[0] == []


def test_circle_of_branches_ends(tmp_path):
    """A folder that was copied or edited may hold one."""
    for name, parent in {"a": "b", "b": "a", "c": "c"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(to_json(config_of(branch_from=f"{parent}@5")))
    for name in "abc":
        found = state_of(tmp_path / name, {})
        assert found.state == "failed" and "branches from itself" in found.cause
