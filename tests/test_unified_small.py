"""The study of text and images: its grid, and multipliers of each task."""

import pytest

from experiments import unified_small
from mdlm_jax.report.analysis import analyse
from mdlm_jax.report.stored import read_stored
from tests.run_folders import ROOT


def test_grid():
    """4 budgets, 5 sizes and 2 seeds of both objectives, which answer in both directions."""
    configs = unified_small.grid()
    cells = {(one.objective.name, one.budget, one.model.size, one.seed) for one in configs}
    assert len(cells) == len(configs) == 2 * 4 * 5 * 2
    assert {one.objective.order for one in configs if one.objective.name == "ar"} == {"flipped"}


def test_multiplier_of_a_task_has_its_nats(monkeypatch):
    results = read_stored(ROOT / "experiments" / "results" / "quickstart" / "results.json")[0]
    results = [run for run in results if run.objective in ("ar", "masked")]
    known = analyse(results).comparisons[0].multiplier
    nats = {run.run_id: {"text": [run.loss, run.loss_standard_error, run.loss_monte_carlo_error]} for run in results}
    monkeypatch.setattr(unified_small, "TASKS", ("text",))
    blank = [run._replace(loss=9.0) for run in results]
    assert unified_small.multipliers(blank, nats)["text"]["mean"] == pytest.approx(known.mean)
