"""Rates that are carried to larger sizes, on runs whose best rate and noise are known in closed form."""

import json
import math
import sys

import numpy as np
import pytest

from mdlm_jax.cli.main import main
from mdlm_jax.config import override
from mdlm_jax.configs import base
from mdlm_jax.errors import UserError
from mdlm_jax.laws import best_rate, shift
from mdlm_jax.report.transfer_page import transfer_page
from mdlm_jax.sweeps import launchers, transfer
from tests.report import fake_run
from tests.sweeps.test_tune import best_rate as known_rate


def config_of(parametrization="completep"):
    keys = {"model.size": "4k", "model.parametrization": parametrization, "optim.lr": 0.022, "steps": 50}
    return override(base.get_config(), [f"--config.{key}={value}" for key, value in keys.items()])


def test_grid_has_the_base_as_base_shape():
    grid = transfer.transfer_grid(config_of(), ["12k", "33k"], seeds=2)
    assert len(grid) == 3 * 7 * 2 and {config.steps for config in grid} == {50}
    assert {config.model.base_width for config in grid} == {16}
    assert {config.model.base_layers for config in grid} == {1}
    assert {config.model.base_head_width for config in grid} == {8}
    rates = {config.optim.lr for config in grid}
    assert (min(rates), max(rates)) == (0.00275, 0.176)


def test_grid_of_a_budget_has_equal_steps():
    keys = ["--config.budget=1e9", "--config.model.parametrization=standard"]
    grid = transfer.transfer_grid(override(base.get_config(), ["--config.model.size=4k", *keys]), ["33k"], seeds=1)
    (steps,) = {config.steps for config in grid}
    assert steps > 1 and {config.budget for config in grid} == {0.0}


def test_smaller_sizes_are_refused():
    with pytest.raises(UserError, match="1k is no larger network than 4k"):
        transfer.transfer_grid(config_of(), ["1k"], seeds=1)
    wide = override(config_of(), ["--config.model.size=85M"])
    with pytest.raises(UserError, match="75M is no larger network than 85M"):  # deeper, of smaller MLPs
        transfer.transfer_grid(wide, ["75M"], seeds=1)


def trained_at_once(folder, starting, jobs):
    """A launcher that writes the known results."""
    for job in starting:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["", str(job.folder)])
            exec(fake_run.CHILD, {})


def test_known_optima_are_found(tmp_path):
    config = config_of()
    summary, curves = transfer.run_transfer(config, ["33k", "12k"], 2, tmp_path / "runs", trained_at_once)
    assert [curve.size for curve in curves] == ["4k", "12k", "33k"]
    assert transfer.verdict(curves[0], curves[0]) == "base"
    assert (summary.done, summary.failed, summary.left) == (42, 0, 0)
    for curve in curves:
        best = curve.best
        assert best.rate == pytest.approx(known_rate(curve.size), rel=1e-6)
        assert best.interior and best.low < best.rate < best.high
        assert best.noise == pytest.approx(0.01 * math.sqrt(2))
        factor = known_rate(curve.size) / known_rate("4k")
        assert curve.moved.factor == pytest.approx(factor, rel=1e-6) and curve.moved.low <= factor <= curve.moved.high
    assert transfer.transfer_table(curves).row_count == 3
    tuned = transfer.tuned_config(config, curves)
    assert (tuned.model.size, tuned.optim.lr) == ("33k", pytest.approx(known_rate("4k"), rel=1e-2))
    kept = transfer.transfer_as_json(curves)
    page = transfer_page(json.loads(json.dumps(kept)), "completep", ["how"])
    assert "33k: best rate 0.0148" in page


def test_base_at_an_end_of_the_rates(tmp_path, monkeypatch, capsys):
    """The grid ends at 0.008, below the best rates, 0.025 and 0.015."""
    monkeypatch.setattr(launchers, "local", lambda workers: trained_at_once)
    words = ["--config", "base", "--sizes", "33k", "--folder", str(tmp_path / "runs"), "--config.model.size=4k"]
    with pytest.raises(SystemExit) as ended:
        main(["transfer", *words, "--config.model.parametrization=standard", "--config.optim.lr=0.001"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "best.py is not written" in said and "0.008 or beyond" in said and "--config.optim.lr=0.008" in said
    stored = json.loads((tmp_path / "runs/transfer.json").read_text())
    assert {curve["verdict"] for curve in stored["curves"]} == {"at an end of the rates"}
    assert "the base: at an end of the rates" in (tmp_path / "runs/transfer.html").read_text()
    assert not (tmp_path / "runs/best.py").exists()


def test_inside_beside_a_base_at_an_end():
    """The larger curve alone has its minimum inside."""
    rates = [0.01, 0.02, 0.04]
    falling, inside = ([[loss, loss + 0.01] for loss in losses] for losses in ([3.0, 2.5, 2.2], [3.0, 2.5, 2.7]))
    curves = []
    for number, (size, losses) in enumerate({"4k": falling, "33k": inside}.items()):
        best = best_rate(rates, losses, seed=number)
        curves.append(transfer.SizeCurve(size, 1, rates, losses, best, shift(best, curves[0].best if curves else best)))
    assert [curve.best.interior for curve in curves] == [False, True]
    assert [transfer.verdict(curve, curves[0]) for curve in curves] == ["at an end of the rates"] * 2


def test_intervals_are_those_of_the_parabola():
    """ln of the best rate varies by noise over (slope of the means) = noise / sqrt(2) / (a h), a the curvature."""
    rates, a, h, noise = 0.01 * 2.0 ** np.arange(5), 0.2, math.log(2), 0.002
    losses = [
        [2 + a / 2 * math.log(rate / 0.04) ** 2 + sign * noise / math.sqrt(2) for sign in (-1, 1)] for rate in rates
    ]
    best = best_rate(rates.tolist(), losses)
    assert best.rate == pytest.approx(0.04)
    spread = noise / math.sqrt(2) / (math.sqrt(2) * a * h)
    assert math.log(best.high / best.low) == pytest.approx(2 * 1.96 * spread, rel=0.1)
    moved = shift(best, best_rate(rates.tolist(), losses, seed=1))
    assert math.log(moved.high / moved.low) == pytest.approx(2 * 1.96 * spread * math.sqrt(2), rel=0.1)


def test_ends_and_failures_are_told():
    falling = best_rate([0.01, 0.02, 0.04], [[3.0, 3.1], [2.5, 2.6], [2.2, 2.3]])
    assert falling.rate == pytest.approx(0.04) and not falling.interior
    failed = best_rate([0.01, 0.02, 0.04], [[3.0, 3.1], [2.5, 2.6], []])
    assert failed.rate == pytest.approx(0.02) and failed.interior
    with pytest.raises(ValueError, match="two seeds"):
        best_rate([0.01, 0.02, 0.04], [[3.0], [2.5], [2.2]])
