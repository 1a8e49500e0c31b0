"""The study of text and images: its grid, and multipliers of each task."""

import json
from collections import defaultdict

import numpy as np
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


def test_table_of_the_page():
    """The least mean over seeds of any size, for each task, objective and budget."""
    stored = json.loads((ROOT / "experiments/results/unified_small/tasks.json").read_text(encoding="utf-8"))
    assert all("without a minimum" in found for found in stored["multipliers"].values())
    nats = defaultdict(lambda: defaultdict(list))
    for name, tasks in stored["nats_per_token"].items():
        *objective, budget, size, _, _ = name.split("-")
        for task, (loss, *_) in tasks.items():
            nats[task, objective[0], float(budget)][size].append(loss)
    page = (ROOT / "docs/theory/text-and-images.md").read_text(encoding="utf-8")
    for budget in {budget for _, _, budget in nats}:
        cells = [
            f"{min(map(np.mean, nats[task, objective, budget].values())):.3f}"
            for task in ("joint", "image_given_text", "text_given_image")
            for objective in ("ar", "unified")
        ]
        assert f"| {' | '.join(cells)} |" in page
