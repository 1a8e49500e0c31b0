"""The verb `next`: real sizes, inside the budget and near the fitted runs."""

import json

import pytest

from mdlm_jax.cli.main import main
from mdlm_jax.configs.sizes import SIZES
from mdlm_jax.laws import hull_distance, write_fits
from mdlm_jax.laws.parametric import Runs
from mdlm_jax.sweeps.proposals import NEAR, candidate_grid
from tests.laws.known import known_fit


def test_candidates_are_near_the_runs():
    fitted = known_fit(2).fitted
    candidates, sizes = candidate_grid(fitted, fitted)
    assert set(sizes) <= set(SIZES) and set(candidates.objective) == {0, 1}
    assert hull_distance(fitted.inputs, Runs(candidates.parameters, candidates.tokens)).max() <= NEAR
    assert candidates.cost == pytest.approx(6 * candidates.parameters * candidates.tokens)


def test_next_prints_runs_within_the_budget(tmp_path, capsys):
    write_fits(tmp_path / "fits.json", {"ar": known_fit(2), "masked": known_fit(2)})
    with pytest.raises(SystemExit) as ended:
        main(["next", str(tmp_path / "fits.json"), "--objective", "masked", "--budget", "1e20"])
    told = json.loads(capsys.readouterr().out)
    assert not ended.value.code and 0 < told["flops"] <= 1e20
    assert told["multiplier"] == pytest.approx(1) and told["interval"][0] < 1 < told["interval"][1]
    assert told["counter"] == "6 N D"
    assert 0 < told["interval_width_expected"] < 1
    assert {run["objective"] for run in told["runs"]} == {"ar", "masked"}


def test_dollars(tmp_path, capsys):
    write_fits(tmp_path / "fits.json", {"ar": known_fit(2), "masked": known_fit(2)})
    words = ["next", str(tmp_path / "fits.json"), "--objective", "masked", "--hardware", "a100:8"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--dollars", "300", "--mfu", "0.4", "--price", "1.5"])
    told = json.loads(capsys.readouterr().out)
    assert not ended.value.code and 0 < told["dollars"] <= 300
    assert told["dollars"] == pytest.approx(told["flops"] / (312e12 * 0.4) / 3600 * 1.5)
