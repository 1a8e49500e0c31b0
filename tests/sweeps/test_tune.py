"""Learning-rate tuning on runs whose best learning rate and noise are known in closed form."""

import json
import math

import numpy as np
import pytest

from mdlm_jax.configs import base
from mdlm_jax.errors import UserError
from mdlm_jax.runs.result import Result
from mdlm_jax.sweeps import launch, launchers, sweep, tune
from mdlm_jax.sweeps.experiment import Experiment
from mdlm_jax.sweeps.launch import Slot
from tests.report import fake_run


@pytest.fixture
def experiment(tmp_path):
    configs = []
    for objective in ("ar", "masked"):
        for budget in (1e11, 1e10) if objective == "ar" else (1e11, 1e12):
            for size in fake_run.PARAMETERS:
                config = base.get_config()
                config.objective.name, config.budget, config.model.size = objective, budget, size
                config.optim.lr = 0.022
                configs.append(config)
    return Experiment(tmp_path / "study.py", "Study", configs)


def best_rate(size):
    return 0.02 * (fake_run.PARAMETERS[size] / 1e4) ** -0.25


def test_grid_uses_the_smallest_budget(experiment):
    """Each objective is tuned at its own smallest budget."""
    grid = tune.tuning_grid(experiment.configs, (0.5, 1.0, 2.0), seeds=2)
    assert len(grid) == 2 * 3 * 3 * 2
    assert {(config.objective.name, config.budget) for config in grid} == {("ar", 1e10), ("masked", 1e11)}
    assert {config.optim.lr for config in grid} == {0.011, 0.022, 0.044}
    assert {config.seed for config in grid} == {0, 1}
    assert all(config.optim.lr == 0.022 and config.seed == 0 for config in experiment.configs), "left as they were"


def test_grid_uses_the_middle_step_count(experiment):
    """Runs given by steps, not by a budget."""
    steps = (64, 128, 256, 512, 1024)
    configs = [config.copy_and_resolve_references() for config in experiment.configs[:1] for _ in steps]
    for config, number in zip(configs, steps, strict=True):
        config.budget, config.steps = 0.0, number
    assert {config.steps for config in tune.tuning_grid(configs, (0.5, 1.0, 2.0), seeds=1)} == {256}


def test_known_optimum_is_found(tmp_path, experiment, monkeypatch):
    monkeypatch.setattr(launch, "slots", lambda workers: [Slot(frozenset(), {})] * 2)
    folder = tmp_path / "tune"
    summary, found = tune.tune(experiment, folder, launchers.local(command=fake_run.COMMAND))
    assert summary == sweep.Summary(done=36, failed=0, left=0)
    assert len(found) == 6
    for curve in found:
        assert curve.interior
        assert curve.best == pytest.approx(best_rate(curve.size), rel=1e-6)
        assert curve.excess == pytest.approx(fake_run.CURVATURE / 2 * math.log(0.022 / best_rate(curve.size)) ** 2)
        # two seeds, 0.01 above and below their mean, in every cell
        assert curve.noise == pytest.approx(0.01 * math.sqrt(2))
    assert len(json.loads((folder / "learning_rates.json").read_text())) == 6
    assert tune.tuned_table(found).row_count == 6


def test_excess_error_is_propagated(experiment):
    """Against derivatives by hand: a x*^2, with a and b of the parabola a x^2 + b x through x = -h, 0, h."""
    h, a, best, noise = math.log(2), 0.1, 0.025, 0.002
    offset = math.log(best / 0.022)
    runs = []
    for factor in (0.5, 1.0, 2.0):
        loss = 2 + a * (math.log(factor) - offset) ** 2
        for sign in (-1, 1):
            fields = fake_run.FIELDS | {"objective": "ar", "size": "4k", "learning_rate": 0.022 * factor}
            runs.append(Result(**fields | {"loss": loss + sign * noise / math.sqrt(2)}))
    (curve,) = tune.tuned(runs, experiment.configs)
    assert curve.noise == pytest.approx(noise)
    assert curve.excess == pytest.approx(a * offset**2)
    # excess = b^2 / 4a, with b = -2 a offset, a and b linear in the three means
    slopes = -offset * np.array([-1, 0, 1]) / (2 * h) - offset**2 * np.array([1, -2, 1]) / (2 * h**2)
    assert curve.excess_error == pytest.approx(noise / math.sqrt(2) * np.linalg.norm(slopes), rel=0.15)


def test_excess_of_an_optimum_at_the_edge():
    rates = np.array([0.01, 0.02, 0.04])
    losses = np.array([3.0, 2.5, 2.2])
    assert tune._excess(rates, losses, 0.02) == pytest.approx(0.3)


@pytest.mark.parametrize("factors", [(1.0, 2.0), (1.0, 1.0, 2.0), (0.0, 1.0, 2.0)])
def test_factors_without_parabola_are_refused(experiment, tmp_path, factors):
    with pytest.raises(UserError, match="accepted: 3 or more, all above 0"):
        tune.tune(experiment, tmp_path, launchers.local(), factors)
