"""Tighter likelihoods of the runs of a sweep, in their results."""

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.runs.result import read_result
from mdlm_jax.sweeps import tight
from tests.runs.here import train_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sweep")
    for name in ("ar", "masked"):
        train_here(place / name, steps=2, objective__name=name)
    return place


def results(folder):
    return [read_result(folder / name / "result.json") for name in ("ar", "masked")]


def test_likelihoods_are_stored_once(folder, monkeypatch):
    lines = list(tight.evaluate_runs(results(folder), folder, "orders", 4))
    assert lines[0].startswith("ar is left out: --likelihood=orders: ar has an exact one") and len(lines) == 2
    exact, masked = results(folder)
    expected = evaluate_run(folder / "masked", draws=None, likelihood="orders", orders=4, sequences=None)
    assert exact.likelihoods == {} and masked.likelihoods["orders"] == {
        **{key: expected[key] for key in ("nats_per_token", "standard_error", "monte_carlo_error")},
        **{"draws": 4.0},
    }
    assert masked.likelihoods["orders"]["nats_per_token"] <= masked.loss + 4 * masked.loss_standard_error
    monkeypatch.setattr(tight, "evaluate_run", None)  # the second call evaluates nothing
    assert list(tight.evaluate_runs(results(folder), folder, "orders", 4)) == lines


def test_no_run_has_it(folder):
    with pytest.raises(UserError, match="ar has an exact one"):
        list(tight.evaluate_runs(results(folder)[:1], folder, "left_to_right"))
