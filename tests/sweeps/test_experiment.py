"""Files of experiments that are none, and those of the project."""

import pathlib
import sys

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.sweeps.experiment import load_experiment
from mdlm_jax.sweeps.plan import plan_runs, plan_table

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
        (
            EXPERIMENT.replace("(1e10, 1e11)", "(2.0, 3.0)").replace("config.budget", "config.objective.power"),
            r"they differ in objective.power: 2.0 -> 3.0; accepted: runs that differ in objective, budget, size",
        ),
    ],
)
def test_an_experiment_that_is_none(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_experiment(write(tmp_path, text))


def test_a_missing_experiment(tmp_path):
    with pytest.raises(UserError, match="nothing.py: no such file; accepted: an experiment"):
        load_experiment(tmp_path / "nothing.py")


def column(table, name):
    (found,) = [column for column in table.columns if column.header == name]
    return list(found.cells)


def test_the_experiments_of_the_project_are_sound(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    experiments = pathlib.Path(__file__).resolve().parents[2] / "experiments"
    counts = {}
    for path in sorted(experiments.glob("[a-z]*.py")):
        planned = plan_runs(load_experiment(path).configs)
        assert column(plan_table(planned), "run") == [run.run_id for run in planned]
        counts[path.stem] = len(planned)
    assert counts["smdm"] == 2 * 5 * 30 * 2  # objectives, budgets, sizes, learning rates
    assert counts["smdm_small"] == 2 * 5 * 10 * 2
    assert counts["repeated"] == 2 * 3 * 5 * 5  # objectives, unique tokens, sizes, epochs
    assert counts["data_constrained"] == 2 * 3 * 5 * 2
    assert counts["isoflop_small"] == (3 * 4 * 5 + 2) * 2  # objectives, budgets, sizes; one more for two of them; seeds
    assert counts["objectives"] == 9 * 3
