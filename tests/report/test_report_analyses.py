"""Repeated data, several seeds at one size and budget, weak designs, and parametric fits."""

import numpy as np
import pytest

from mdlm_jax.laws import Refusal
from mdlm_jax.report.analysis import analyse
from mdlm_jax.report.equal_compute import equal_compute
from mdlm_jax.report.parametric_fits import parametric_fit
from mdlm_jax.report.repeated import repeated as analyse_repeated
from mdlm_jax.report.study import make_study
from mdlm_jax.report.text.comparisons import differences, overtakings
from mdlm_jax.report.text.weaknesses import warnings
from tests.synthetic import equal, quickstart, repeated, sweep


def test_crossover():
    ((found,), rest) = analyse_repeated(repeated(crossing=12.0))
    assert rest == []
    (overtaking,) = found.overtakings
    assert (overtaking.reference, overtaking.other) == ("ar", "masked")
    assert overtaking.crossing.epochs == pytest.approx(12.0)
    (sentence,) = overtakings(found)
    assert (
        "masked against ar on 65.5k unique tokens" in sentence
        and "masked has the lower loss from 12 epochs on (95%" in sentence
    )
    assert "There is one seed" in sentence


@pytest.mark.parametrize(("crossing", "lower", "end"), [(1000.0, "ar", "beyond 64"), (0.1, "masked", "before 1")])
def test_no_crossover(crossing, lower, end):
    ((found,), _) = analyse_repeated(repeated(crossing=crossing))
    (sentence,) = overtakings(found)
    assert f"no crossover within 1 to 64 epochs. {lower} has the lower loss at the last" in sentence
    assert f"95% interval {end} to {end}" in sentence


def test_repeated_data_with_and_without_isoflops():
    alone = make_study(repeated(), [], {})
    assert alone.analysis.runs == {} and len(alone.repeated) == 1 and alone.analysis.left_out == []
    beside = make_study(quickstart()[:10] + repeated(), [], {})
    assert list(beside.analysis.runs) == ["ar"] and len(beside.repeated) == 1


def test_single_run_of_steps():
    (run,) = [run for run in repeated() if run.run_id == "ar-4epochs-12k-seed0"]
    assert make_study([run], [], {}).analysis.left_out == [
        "ar-4epochs-12k-seed0: has steps instead of a budget, and no other epochs, seeds or objectives to compare"
    ]


def test_means_over_seeds():
    (cell,) = equal_compute(equal(seeds=4, noise=0.005))
    assert list(cell.means) == ["ar", "any_order", "gidd", "masked", "masked_lm"]
    assert cell.means["ar"].mean == pytest.approx(np.mean([run.loss for run in cell.runs["ar"]]))
    compared = {one.other: one.value for one in cell.differences}
    assert list(compared) == ["any_order", "gidd", "masked"], "masked_lm bounds no likelihood"
    assert compared["masked"].mean == pytest.approx(0.1, abs=3 * 0.005 * np.sqrt(2 / 4))
    assert "4 seeds, paired" in differences(cell)[0] and "covers 0" not in differences(cell)[0]


def test_paired_seeds():
    runs = [run._replace(loss=run.loss + run.seed) for run in equal(noise=0.0)]  # a common shift of each seed
    (cell,) = equal_compute(runs)
    value = cell.differences[0].value
    assert value.mean == pytest.approx(0.05) and value.high - value.low < 0.01


def test_one_seed():
    assert equal_compute(equal(seeds=1)) == []


def test_weak_designs():
    few = [run for run in sweep("ar", 1.0, (1e10, 3e10), bound="exact") if run.size in ("4k", "12k", "33k")]
    few += [run for run in sweep("ar", 1.0, (1e12,), bound="exact") if run.size == "4k"]
    text = " ".join(warnings(analyse(few)))
    assert "ar at 1e12 FLOPs: there is no minimum, because 1 size makes no parabola, which takes 3. Its runs" in text
    assert "ar: 3 sizes at 1e10, 3e10 FLOPs" in text
    assert "two minima determine a power law" in text and "Every run has one seed" in text


def test_noisy_seeds():
    budgets = (1e10, 3e10, 1e11, 3e11)
    results = sweep("ar", 1.0, budgets, bound="exact") + sweep("masked", 1.05, budgets, seed=1)
    noisy = [run._replace(seed=1, run_id=f"{run.run_id}-1", loss=run.loss + 0.05) for run in results]
    assert any("have a standard deviation of 0.0354 nats" in text for text in warnings(analyse(results + noisy)))
    quiet = [run._replace(seed=1, run_id=f"{run.run_id}-1", loss=run.loss + 0.001) for run in results]
    assert not any("have a standard deviation" in text for text in warnings(analyse(results + quiet)))


def test_parametric_fit():
    runs = []
    for run in sweep("ar", 1.0, (1e10, 1e11, 1e12)):
        loss = 1.5 + 30 * run.parameters_non_embedding**-0.4 + 60 * run.tokens**-0.35
        runs.append(run._replace(loss=loss * (1 + 1e-5 * (-1) ** len(runs))))
    surface = parametric_fit(runs, seed=0)
    assert (surface.fitted.values.E, surface.fitted.values.alpha) == pytest.approx((1.5, 0.4), rel=5e-3)
    assert surface.exponent[0] == pytest.approx(0.35 / 0.75, rel=5e-3)
    assert np.max(np.abs(surface.residuals)) < 3e-5
    assert [profile.parameter for profile in surface.profiles] == ["E", "alpha", "beta"]
    refused = parametric_fit(sweep("ar", 1.0, (1e10, 1e11)), seed=0)
    assert isinstance(refused, Refusal) and "takes 3 budgets, and there are 2" in refused.reason
