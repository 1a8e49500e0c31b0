"""Invalid experiment files, and the experiments of this repository."""

import pathlib
import sys

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.sweeps.experiment import load_experiment
from mdlm_jax.sweeps.plan import plan_runs, plan_table
from mdlm_jax.user_file import run_file

EXPERIMENT = '''
"""An experiment."""
from mdlm_jax.configs import base

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


def write(folder, text, name="study.py"):
    path = folder / name
    path.write_text(text)
    return path


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
        ('TITLE = "x"\nasync def grid(): return 3', r"study.py: grid is async; accepted: a plain function"),
        ('TITLE = "x"\nasync def grid(): yield 3', r"study.py: grid is async; accepted: a plain function"),
        ('TITLE = "x"\ndef grid(): return 3', r"grid\(\) gives 3; accepted"),
        ('TITLE = "x"\ndef grid(): return iter(())', r"grid\(\) gives \[\]; accepted"),
        ('TITLE = "x"\ndef grid(): raise SystemExit(1)', r"study.py, line 2: SystemExit: 1"),
        ('TITLE = "x"\ndef grid():\n    yield 1 / 0', r"study.py, line 3: ZeroDivisionError"),
        (
            EXPERIMENT.replace("return configs", "return {'a/b': configs[0]}"),
            "called 'a/b'; accepted: the name of a folder",
        ),
        (EXPERIMENT.replace("return configs", "return {'x' * 256: configs[0]}"), "up to 200 bytes"),
        (EXPERIMENT.replace("return configs", "return {1: configs[0]}"), "called 1; accepted"),
        (EXPERIMENT.replace("return configs", "return dict.fromkeys('ab', configs[0])"), "they differ in nothing"),
        (
            EXPERIMENT.replace("base.get_config()", "__import__('ml_collections').ConfigDict(dict(objective={}))"),
            "study.py",
        ),
    ],
)
def test_invalid_experiment_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_experiment(write(tmp_path, text))


def test_any_varying_key_makes_runs(tmp_path):
    text = EXPERIMENT.replace("(1e10, 1e11)", "(0.9, 0.95)").replace("config.budget", "config.optim.ema")
    found = load_experiment(write(tmp_path, text.replace("return configs", "yield from configs")))
    assert found.run_ids == [
        f"{name}-1000steps-4k-lr0.01-seed0-ema{ema}" for name in ("ar", "masked") for ema in (0.9, 0.95)
    ]
    assert [run.run_id for run in plan_runs(found.configs, found.run_ids)] == found.run_ids


def test_dict_keys_label_the_runs(tmp_path):
    text = EXPERIMENT.replace("return configs", "return dict(zip(('a b', 'c', 'd', 'e'), configs))")
    found = load_experiment(write(tmp_path, text))
    assert found.run_ids == ["a b", "c", "d", "e"] and len(found.configs) == 4


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["quickstart", "smdm_small", "objectives"])
def test_experiment_by_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    by_path = load_experiment(pathlib.Path(__file__).resolve().parents[2] / "experiments" / f"{name}.py")
    found = load_experiment(name)
    assert (found.title, found.configs) == (by_path.title, by_path.configs) and found.path.stem == name


def test_missing_experiment(tmp_path):
    with pytest.raises(UserError, match="nothing.py: no such file; accepted: an experiment"):
        load_experiment(tmp_path / "nothing.py")


def column(table, name):
    (found,) = [column for column in table.columns if column.header == name]
    return list(found.cells)


@pytest.mark.slow
def test_repository_experiments_plan(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)  # an experiment may write what it reads below the current folder
    experiments = pathlib.Path(__file__).resolve().parents[2] / "experiments"
    counts = {}
    for path in sorted(experiments.glob("[a-z]*.py")):
        if "grid" not in run_file(path):
            continue  # a script
        planned = plan_runs(load_experiment(path).configs)
        assert column(plan_table(planned), "run") == [run.run_id for run in planned]
        counts[path.stem] = len(planned)
    assert counts["smdm"] == 2 * 5 * 30 * 2  # objectives, budgets, sizes, learning rates
    assert counts["smdm_small"] == 2 * 5 * 10 * 2
    assert counts["repeated"] == 2 * 3 * 5 * 5  # objectives, unique tokens, sizes, epochs
    assert counts["data_constrained"] == 2 * 3 * 5 * 2
    assert counts["isoflop_small"] == (3 * 4 * 5 + 2) * 2  # objectives, budgets, sizes; one more for two of them; seeds
    assert counts["objectives"] == 9 * 3
    assert counts["branches"] == 2 * 4 * 6  # objectives, sizes, budgets
