"""The advised run is the optimum in closed form, and its file is a config that train takes."""

import json

import numpy as np
import pytest

from mdlm_jax.build import plan
from mdlm_jax.cli.main import main
from mdlm_jax.config import load_config
from mdlm_jax.errors import UserError
from mdlm_jax.laws import allocation, loss_at, write_fits
from mdlm_jax.laws.parametric import Runs
from mdlm_jax.sweeps.advise import advise
from tests.laws.known import TRUTH, known_fit

BUDGET = 1e19


def test_file_is_the_optimum_in_closed_form(tmp_path, capsys):
    fits, out = tmp_path / "fits.json", tmp_path / "best.py"
    write_fits(fits, {"masked": known_fit(draws=200)})
    words = ["advise", str(fits), "--objective", "masked", "--budget", str(BUDGET), "--config", "smdm"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--config.data.tokenizer=bytes", "--out", str(out)])
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)
    best = allocation(TRUTH, "six_nonembedding")
    optimum = best.parameters_coefficient * BUDGET**best.parameters_exponent
    assert told["parameters_non_embedding"] == pytest.approx(optimum, rel=0.12)  # as near as the ladder has one
    config = load_config(out)
    planned = plan(config)
    assert planned.total.six_nonembedding == pytest.approx(BUDGET, rel=1e-3)
    assert config.objective.name == "masked" and config.budget == BUDGET
    assert config.train.batch_size == told["batch_size"] and config.train.batch_size % 8 == 0
    asked = Runs(*(np.array([told[key]], float) for key in ("parameters_non_embedding", "tokens")))
    assert told["loss"] == pytest.approx(loss_at(known_fit(2).fitted, asked)[0])
    assert told["interval_of_new_run"][0] < told["interval_of_mean"][0] < told["loss"] < told["interval_of_mean"][1]
    assert told["decades_outside"] == 0 and not told["best_is_at_the_edge"]
    assert told["hours"] == pytest.approx(planned.total.exact / (8 * 989e12 * 0.5 * 3600))


def test_dollars(tmp_path, capsys):
    """They are spent on the exactly counted FLOPs of the run."""
    write_fits(tmp_path / "fits.json", {"masked": known_fit(draws=200)})
    words = ["advise", str(tmp_path / "fits.json"), "--objective", "masked", "--config", "smdm"]
    words += ["--dollars", "40", "--hardware", "h100:8", "--mfu", "0.4", "--price", "2.5"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--config.data.tokenizer=bytes", "--out", str(tmp_path / "best.py")])
    assert not ended.value.code
    told, planned = json.loads(capsys.readouterr().out), plan(load_config(tmp_path / "best.py"))
    assert told["budget_counter"] == "exact" and told["budget"] == pytest.approx(40 / 2.5 * 3600 * 989e12 * 0.4)
    assert planned.total.exact == pytest.approx(told["budget"], rel=1e-2)
    assert told["dollars"] == pytest.approx(40, rel=1e-2)
    assert told["hours"] == pytest.approx(40 / 2.5 / 8, rel=1e-2)


def test_unfit_budget_is_one_line():
    with pytest.raises(UserError, match="accepted: a budget nearer to those of the fit") as raised:
        advise(known_fit(2), "masked", load_config("smdm", ["--config.data.tokenizer=bytes"]), 1e13, "config")
    assert "\n" not in str(raised.value)
