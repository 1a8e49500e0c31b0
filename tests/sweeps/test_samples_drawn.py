"""Samples of a sweep's best runs: the choice of the runs, and the file written."""

import json
import math

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.sweeps import samples
from tests import run_folders as runs
from tests.synthetic import sweep


def test_lowest_mean_loss_is_chosen():
    """At every budget the size with the lowest mean loss over seeds is chosen."""
    first, second = (sweep("masked", 1e10, (1e10, 1e11), noise=0.0) for _ in range(2))
    # the second seed of one size is so bad that its mean is not the lowest any more
    best = min((run for run in first if run.budget == 1e10), key=lambda run: run.loss)
    again = [run._replace(seed=1, loss=run.loss + 5 * (run.run_id == best.run_id)) for run in second]
    found = samples.best_runs([*again, *first])
    assert [run.budget for run in found] == [1e10, 1e11]
    assert [run.seed for run in found] == [0, 0]
    assert found[0].size != best.size


def test_judge_is_the_best_ar_run():
    """Without an autoregressive run the user must name a judge."""
    ar = sweep("ar", 1e10, (1e10, 1e11), bound="exact")
    assert samples.default_judge(ar) == min(ar, key=lambda run: run.loss).run_id
    with pytest.raises(UserError, match="--judge=RUN"):
        samples.default_judge(sweep("masked", 1e10, (1e10,)))


@pytest.mark.slow
def test_every_plan_is_measured(tmp_path):
    for objective in ("ar", "masked"):
        runs.train(tmp_path / objective, objective__name=objective, steps=4)
    told = json.loads(samples.measure_samples(tmp_path / "masked", tmp_path / "ar", 4, 2).read_text())
    assert (told["judge"], told["length"], told["rows"]) == ("ar", 16, 8)
    assert [sample["evaluations"] for sample in told["samples"]] == [pytest.approx(n, abs=n / 2) for n in (16, 4, 1)]
    for sample in told["samples"]:
        assert sample["tokens_per_second"] > 0
        assert 0 < sample["entropy"][0] < math.log(16)
        assert math.isfinite(sample["judge_nats"][0])
