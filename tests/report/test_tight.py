"""Compute multipliers under tighter likelihoods than the training bound."""

import numpy as np
import pytest

from mdlm_jax.report import analyse
from mdlm_jax.report.figures import render
from mdlm_jax.report.figures.tight import multipliers_under
from mdlm_jax.report.tight import under_likelihoods
from tests import synthetic

BUDGETS = (3e10, 1e11, 3e11, 1e12)


def with_orders(runs, tighter, draws=64.0):
    """The runs with the losses of others as the bound of random orders."""
    return [
        run._replace(
            likelihoods={
                "orders": {
                    "nats_per_token": other.loss,
                    "standard_error": 0.01,
                    "monte_carlo_error": 0.002,
                    "draws": draws,
                }
            }
        )
        for run, other in zip(runs, tighter, strict=True)
    ]


@pytest.fixture(scope="module")
def results():
    """Masked needs four times the compute of ar under its training bound, and twice under random orders."""
    masked = synthetic.sweep("masked", 4.0, BUDGETS, seed=1)
    tight = with_orders(masked, synthetic.sweep("masked", 2.0, BUDGETS, seed=1))
    return synthetic.sweep("ar", 1.0, (1e10, 3e10, 1e11, 3e11), bound="exact") + tight


def test_multiplier_of_each_likelihood(results):
    found = under_likelihoods(results, analyse(results))
    assert [one.likelihood for one in found] == ["training bound", "64 random orders"]
    for one, known in zip(found, (4.0, 2.0), strict=True):
        assert one.multiplier.mean_low < known < one.multiplier.mean_high
        assert one.multiplier.mean_high / one.multiplier.mean_low < 1.2
    replaced = [
        run._replace(loss=run.likelihoods["orders"]["nats_per_token"]) if run.likelihoods else run for run in results
    ]
    (direct,) = analyse(replaced).comparisons
    np.testing.assert_equal(found[1].multiplier, direct.multiplier)


def test_every_run_must_have_it(results):
    some = [*results[:-1], results[-1]._replace(likelihoods={})]
    assert under_likelihoods(some, analyse(some)) == []
    other = [*results[:-1], with_orders([results[-1]], [results[-1]], draws=8.0)[0]]
    assert under_likelihoods(other, analyse(other)) == []


def test_figure(results):
    analysis = analyse(results)
    figure = multipliers_under(under_likelihoods(results, analysis), analysis)
    assert figure.notes[1].startswith("masked against ar, 64 random orders: ")
    drawn, _ = render.files(render.specification(figure.chart))
    assert "64 random orders" in drawn and "masked / ar" in drawn
    assert multipliers_under([], analysis) is None
