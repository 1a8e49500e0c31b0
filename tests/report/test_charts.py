"""Axes that hold for any numbers: nothing of 0 or below reaches a logarithmic one."""

import itertools
import json
import math

import numpy as np
import pytest

from mdlm_jax.costs.counters import COUNTER_LABELS, COUNTERS
from mdlm_jax.report.analysis import analyse
from mdlm_jax.report.figures import charts, render
from mdlm_jax.report.figures.compute import loss_against_flops
from mdlm_jax.report.page import figures
from mdlm_jax.report.study import make_study
from tests.synthetic import equal, quickstart, repeated, samples, sweep, write_runs

EXTREMES = [[-0.5, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0], [-1.0], [0.0, 0.0], [1e-300, 1.0], [2.0]]


def layers(chart):
    """Every layer of a specification, with its rows."""
    for panel in chart["concat"]:
        for layer in panel["layer"]:
            rows = layer.get("data") or panel.get("data") or chart["data"]
            yield layer["encoding"], json.loads(chart["datasets"][rows["name"]])


def check_log_axes(chart):
    """How many logarithmic axes there are; all of their domains and numbers are positive."""
    count = 0
    for encoding, rows in layers(chart):
        for name, channel in encoding.items():
            scale = channel.get("scale") if isinstance(channel, dict) else None
            if scale and scale.get("type") == "log" and name in ("x", "y"):
                count += 1
                fields = [channel["field"], *(encoding[f"{name}2"]["field"] for _ in [0] if f"{name}2" in encoding)]
                drawn = [row[field] for row in rows for field in fields if field in row]
                assert min([*scale["domain"], *drawn]) > 0, (channel["title"], min(drawn))
    return count


@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize("axis", [charts.x, charts.y])
def test_axis_of_any_numbers(axis, values):
    channel = axis("l", "t", values, log=True).to_dict()
    low, high = channel["scale"]["domain"]
    assert low < min(values) and max(values) < high
    assert (channel["scale"]["type"] == "log") == (min(values) > 0)


@pytest.mark.parametrize("pixels", [150, 200, 320, 750])
def test_labels_do_not_touch(pixels):
    """The labels of any axis of one to nine decades are a label's width apart."""
    for decades in np.linspace(1, 9, 33):
        text = charts.x("C", None, [1.0, 10.0**decades], pixels=pixels).to_dict()["axis"]["labelExpr"]
        multiples = json.loads(text[text.index("[") : text.index("]") + 1])
        places = [math.log10(multiple) + decade for decade in range(10) for multiple in multiples]
        gaps = [after - before for before, after in itertools.pairwise(places)]
        assert min(gaps) * pixels / decades >= charts.LABEL or multiples == [1]


def studied(tmp_path, change=lambda run: run, curve=lambda loss: loss):
    """A study with every figure, its runs and learning curves changed."""
    results = [change(run) for run in quickstart()]
    folders = write_runs(tmp_path, results)
    (folders["masked-12k-1e11"] / "samples.json").write_text(json.dumps(samples()))
    for folder in folders.values():
        lines = (folder / "metrics.jsonl").read_text().splitlines()[:-1]
        rows = [json.loads(line) for line in lines]
        rows = [row | {"loss": curve(row["loss"])} if "loss" in row else row for row in rows]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    others = repeated() + [run._replace(budget=0.0) for run in equal()]
    return make_study(results + [change(run) for run in others], [], folders)


@pytest.mark.parametrize("shift", [0.0, -3.0, -100.0])
def test_every_figure_of_any_loss(tmp_path, shift):
    """Validation and training losses that are positive, mixed and negative, and learning curves with a zero."""
    study = studied(tmp_path, lambda run: run._replace(loss=run.loss + shift), lambda loss: max(loss + shift, shift))
    drawn = [render.specification(figure.chart) for figure in filter(None, figures(study))]
    assert len(drawn) >= (11 if shift == 0 else 6)
    assert sum(map(check_log_axes, drawn)) > 5
    for chart in drawn:
        json.dumps(chart, allow_nan=False)


def test_negative_training_loss_is_drawn(tmp_path):
    """The implicit form of concrete score matching: its loss is negative, its likelihood bound is not."""
    study = studied(tmp_path, curve=lambda loss: loss - 3.0)
    (curves,) = [figure for figure in filter(None, figures(study)) if figure.name == "learning_curves"]
    chart = render.specification(curves.chart)
    assert [encoding["y"]["scale"]["type"] for encoding, _ in layers(chart)] == ["linear"] * 3
    assert all("a frontier needs positive losses" in note for note in curves.notes) and len(curves.notes) == 3
    assert "<svg" in render.svg(chart)


@pytest.mark.few(2)
@pytest.mark.parametrize("counter", COUNTERS)
def test_axes_draw_the_counter_they_name(tmp_path, counter):
    """Runs whose four counts of FLOPs differ, with budgets in one of them."""
    results = [run._replace(budget_counter=counter, budget=run.flops[counter]) for run in quickstart()]
    study = make_study(results, [], write_runs(tmp_path, results))
    spent = {run.run_id: run.flops[counter] for run in results}
    last = {}
    for figure in filter(None, figures(study)):
        for encoding, rows in layers(figure.chart):
            if encoding.get("x", {}).get("field") != "C":
                continue
            assert COUNTER_LABELS[counter] in encoding["x"]["title"]
            for row in rows:
                if "run" in row and figure.name == "learning_curves":
                    last[row["run"]] = max(row["C"], last.get(row["run"], 0.0))
                elif "run" in row:
                    assert row["C"] == pytest.approx(spent[row["run"]], rel=1e-5), figure.name
    assert last and all(pytest.approx(spent[run] * 399 / 400, rel=0.05) == C for run, C in last.items())


def test_shapes_of_overlapping_objectives():
    """Two objectives with the same losses stay visible: hollow points of two shapes, lines of two widths."""
    budgets = (1e10, 3e10, 1e11)
    runs = sweep("any_order", 1.0, budgets, noise=0.0) + sweep("masked", 1.0, budgets, noise=0.0)
    (panel,) = loss_against_flops(analyse(runs)).chart["concat"]
    points = [layer for layer in panel["layer"] if layer["mark"].get("filled") is False]
    assert [layer["encoding"]["shape"]["scale"]["range"] for layer in points] == [["square", "triangle-up"]]
    lines = [
        layer["encoding"]["strokeWidth"]["scale"]["range"]
        for layer in panel["layer"]
        if "strokeWidth" in layer["encoding"]
    ]
    assert lines and lines[0][0] > lines[0][1]
