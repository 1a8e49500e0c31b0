"""Experiment files, plans and whole sweeps, with children that write a result instead of training."""

import json
import sys
import time

import pytest
from ml_collections import ConfigDict

from configs import base, smdm
from mdlm_jax import build
from mdlm_jax.config import to_json
from mdlm_jax.errors import UserError
from mdlm_jax.scaling import launch, sweep
from mdlm_jax.scaling.launch import Place
from tests.scaling.fake_run import COMMAND

EXPERIMENT = '''
"""An experiment."""
from configs import base

TITLE = "Two objectives"


def grid():
    configs = []
    for objective in ("ar", "masked"):
        for budget in (1e10, 1e11):
            config = base.get_config()
            config.objective.name, config.budget, config.model.size = objective, budget, "4k"
            configs.append(config)
    return configs
'''


@pytest.fixture
def experiment(tmp_path):
    return sweep.load_experiment(write(tmp_path, EXPERIMENT))


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(launch, "places", lambda workers: [Place(frozenset(), {})] * (workers or 2))
    return lambda experiment, folder: sweep.run(experiment, folder, command=COMMAND)


def write(folder, text, name="study.py"):
    path = folder / name
    path.write_text(text)
    return path


def started(folder):
    return [line.strip() for path in sorted(folder.glob("*/starts")) for line in path.read_text().splitlines()]


def config(**keys) -> ConfigDict:
    made = base.get_config()
    made.budget, made.model.size = 1e10, "4k"
    made.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    return made


def test_identity():
    assert sweep.run_id(config(objective__name="ar", budget=3e9)) == "ar-3e9-4k-lr0.01-seed0"
    assert sweep.run_id(config(budget=6e18, seed=2, optim__lr=4e-4)) == "masked-6e18-4k-lr0.0004-seed2"
    assert (
        sweep.run_id(config(budget=0.0, model__size="", model__layers=2, model__width=64, steps=7))
        == "masked-7steps-2x64-lr0.01-seed0"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ('TITLE = "x"', r"study.py: lacks grid\(\), which every experiment defines"),
        ("def grid(): return []", r"study.py: lacks TITLE"),
        ('TITLE = "x"\ndef grid(): return []', r"grid\(\) gives \[\]; accepted: a list of one or more ConfigDict"),
        ('TITLE = "x"\ndef grid(): return [{}]', r"grid\(\) gives \[\{\}\]"),
        ('TITLE = "x"\n\ndef grid(): return 1 / 0', r"study.py, line 3: ZeroDivisionError: division by zero"),
        ("import nowhere", r"study.py, line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("TITLE = (", r"study.py, line 1: SyntaxError"),
        (
            EXPERIMENT.replace("(1e10, 1e11)", "(1e10, 1e10)"),
            r"two runs are called ar-1e10-4k-lr0.01-seed0, they differ in nothing",
        ),
        (
            EXPERIMENT.replace("for budget in (1e10, 1e11):", "for power in (2.0, 3.0):").replace(
                "config.budget,", "config.objective.power,"
            ),
            r"NameError: name 'budget' is not defined",
        ),
        (
            EXPERIMENT.replace("(1e10, 1e11)", "(2.0, 3.0)").replace("config.budget", "config.objective.power"),
            r"they differ in objective.power: 2.0 -> 3.0; accepted: runs that differ in objective, budget, size",
        ),
    ],
)
def test_an_experiment_that_is_none(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        sweep.load_experiment(write(tmp_path, text))


def test_a_missing_experiment(tmp_path):
    with pytest.raises(UserError, match="nothing.py: no such file; accepted: an experiment"):
        sweep.load_experiment(tmp_path / "nothing.py")


def test_all_mistakes_are_told_together_and_each_once():
    wrong = [
        *(config(objective__name="none", seed=seed) for seed in range(3)),
        config(budget=1.0),
        config(),
    ]
    with pytest.raises(UserError) as caught:
        sweep.plan(wrong)
    first, second = str(caught.value).splitlines()
    assert first.startswith("none-1e10-4k-lr0.01-seed0 and 2 more: config.objective.name is 'none'; accepted: ar,")
    assert second.startswith("masked-1-4k-lr0.01-seed0: a budget of 1 FLOPs is smaller than one step")


def test_a_plan_is_that_of_each_config_by_itself():
    """What configs that differ in seed and budget share leads to the same numbers; 303,004 steps are SMDM's own."""
    big = smdm.get_config()
    big.model.size = "6M"
    configs = [config(budget=budget, seed=seed) for budget in (1e10, 3e10) for seed in (0, 1)]
    configs += [config(budget=0.0, steps=steps) for steps in (5, 6)] + [big]
    for planned, mine in zip(sweep.plan(configs), configs, strict=True):
        alone = build.plan(mine)
        assert (planned.steps, planned.flops) == (alone.steps, alone.total)
        assert planned.tokens == alone.steps * alone.tokens_per_step
    assert planned.steps == 303_004


def test_a_thousand_runs_are_planned_in_two_seconds():
    configs = [
        config(objective__name=name, model__size=size, budget=1e12 * i)
        for name in ("ar", "masked", "any_order", "any_order_causal")
        for size in ("4k", "33k", "131k", "1.3M", "9.8M")
        for i in range(10, 60)
    ]
    sweep.plan(configs[:1])  # jax starts
    clock = time.process_time()
    assert len(sweep.plan(configs)) == 1000
    assert time.process_time() - clock < 2


def test_a_sweep_runs_all_and_again_only_what_is_missing(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)
    names = [sweep.run_id(config) for config in experiment.configs]
    assert started(folder) == sorted(names)
    assert json.loads((folder / names[0] / "config.json").read_text())["budget"] == 1e10
    (folder / names[1] / "result.json").unlink()
    (folder / names[2] / "result.json").write_text("{")  # a result that was cut short is none
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)
    assert started(folder) == sorted(names + names[1:3])


def test_a_failure_is_shown_with_the_end_of_its_log_and_tried_again(tmp_path, experiment, run, capsys):
    folder = tmp_path / "runs"
    failing = folder / sweep.run_id(experiment.configs[1])
    failing.mkdir(parents=True)
    (failing / "fails").touch()
    assert run(experiment, folder) == sweep.Summary(done=3, failed=1, left=0)
    out = capsys.readouterr().out
    assert "failed   ar-1e11-4k-lr0.01-seed0, exit code 3" in out
    assert "  | the last words" in out
    assert "3 done, 0 running, 1 failed, 0 left" in out
    (failing / "fails").unlink()
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)


def test_a_folder_with_another_config_is_refused_before_anything_runs(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    experiment.configs[0].optim.clip = 2.0
    experiment.configs[1].optim.clip = 2.0
    sweep.prepare(sweep.plan(experiment.configs[:2]), folder)
    with pytest.raises(UserError, match=r"^ar-1e10-4k-lr0.01-seed0 and 1 more: optim.clip: 2.0 -> 1.0: was started"):
        run(sweep.load_experiment(experiment.path), folder)
    assert started(folder) == []


def test_a_result_of_another_config_is_not_done(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    run(experiment, folder)
    path = folder / sweep.run_id(experiment.configs[0])
    experiment.configs[0].optim.clip = 2.0
    (path / "config.json").write_text(to_json(experiment.configs[0]))
    assert sweep.finished(path) is None


def test_a_folder_that_can_not_be_written(tmp_path, experiment, run):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can not be written"):
        run(experiment, tmp_path / "file" / "runs")


def column(table, name):
    (found,) = [column for column in table.columns if column.header == name]
    return list(found.cells)


def test_status_is_that_of_the_folders(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    with pytest.raises(UserError, match="holds no runs"):
        sweep.status_table(folder)
    sweep.prepare(sweep.plan(experiment.configs), folder)
    names = [sweep.run_id(config) for config in experiment.configs]
    assert column(sweep.status_table(folder), "state") == ["waiting"] * 4
    (folder / names[1] / "fails").touch()
    run(experiment, folder)
    (folder / names[0] / "result.json").unlink()
    (folder / names[0] / "claim").write_text(json.dumps({"host": "h", "pid": 1}))
    (folder / names[3] / "result.json").unlink()
    metrics = [{"step": 50, "loss": 3.5}, {"step": 60, "validation_loss": 3.0}]
    (folder / names[3] / "metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)) + '\n{"step": 7')
    with launch.try_claim(folder / names[3]):
        table = sweep.status_table(folder)
    found = dict(zip(column(table, "run"), column(table, "state"), strict=True))
    assert [found[name] for name in names] == ["stopped", "failed", "done", "running"]
    assert "50" in column(table, "step")


def test_report_has_the_runs_of_the_experiment_and_names_the_others(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    run(experiment, folder)
    names = [sweep.run_id(config) for config in experiment.configs]
    (folder / names[0] / "result.json").unlink()
    fewer = experiment._replace(configs=experiment.configs[:3])
    fewer.configs[1].optim.clip = 2.0
    page = sweep.report(fewer, folder).read_text()
    assert "Two objectives" in page
    assert f"{names[0]}/result.json: not there" in page
    assert f"{names[1]}: its config is not that of" in page
    assert f"{names[3]}: not among the runs of" in page


def test_the_experiments_of_the_project_are_sound(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    experiments = launch.pathlib.Path(__file__).resolve().parents[2] / "experiments"
    for path in sorted(experiments.glob("[a-z]*.py")):
        planned = sweep.plan(sweep.load_experiment(path).configs)
        table = sweep.plan_table(planned)
        assert column(table, "run") == [run.run_id for run in planned]
    assert len(planned) == 300, path  # SMDM: two objectives, five budgets, 30 sizes
