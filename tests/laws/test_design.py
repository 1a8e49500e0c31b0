"""The multiplier of two surfaces in closed form, its variance to first order, and that proposals lower it."""

import numpy as np
import pytest

from mdlm_jax.laws import CHINCHILLA, Fit, Refusal, Runs, allocation
from mdlm_jax.laws.design import Candidates, log_compute, propose, slope_of_mean, surface_multiplier
from mdlm_jax.laws.surface import slopes
from mdlm_jax.laws.uncertainty import residual_variance
from tests.laws.known import NOISE, TRUTH, known_runs

RATIO = 16.0


def fits():
    """The truth, and the same law with 16 times its compute for every loss: N and D each 4 times as large."""
    runs, loss = known_runs()
    found = []
    for scale in (1.0, RATIO**0.5):
        values = TRUTH._replace(A=TRUTH.A * scale**TRUTH.alpha, B=TRUTH.B * scale**TRUTH.beta)
        coordinates = np.where(CHINCHILLA.logarithmic, np.log(values), values)
        inputs = Runs(runs.parameters * scale, runs.tokens * scale)
        found.append(Fit(CHINCHILLA, "squares", inputs, loss, np.ones(5, bool), coordinates, values, NOISE, 1.0))
    return found


def candidates():
    shape = np.meshgrid((0, 1), np.geomspace(1e7, 3e9, 5), np.geomspace(1e9, 3e11, 5), indexing="ij")
    objective, parameters, tokens = (grid.ravel() for grid in shape)
    return Candidates(objective.astype(int), parameters, tokens, 6 * parameters * tokens)


def test_compute_is_that_of_the_allocation():
    best = allocation(TRUTH, "six_nonembedding")
    compute = np.geomspace(1e17, 1e21, 5)
    parameters = best.parameters_coefficient * compute**best.parameters_exponent
    loss = TRUTH.E + TRUTH.A * parameters**-TRUTH.alpha + TRUTH.B * (compute / 6 / parameters) ** -TRUTH.beta
    coordinates = fits()[0].coordinates
    assert log_compute(coordinates, loss) == pytest.approx(np.log(compute), abs=1e-10)
    mean = lambda at: np.mean(log_compute(at, loss))  # noqa: E731
    differences = [(mean(coordinates + step) - mean(coordinates - step)) / 2e-6 for step in 1e-6 * np.eye(5)]
    assert slope_of_mean(coordinates, loss) == pytest.approx(np.array(differences), rel=1e-6)


def test_multiplier_of_a_known_ratio():
    reference, other = fits()
    found = surface_multiplier(reference, other)
    assert found.mean == pytest.approx(RATIO, rel=1e-9) and found.low < RATIO < found.high
    near = other._replace(inputs=Runs(other.inputs.parameters / 1e4, other.inputs.tokens / 1e4))
    assert "do not overlap" in surface_multiplier(reference, near).reason


def test_expected_width_is_that_of_all_runs():
    """The expected variance is g' S g with the covariance of old and chosen runs together."""
    reference, other = fits()
    grid = candidates()
    budget = float(grid.cost.max())
    proposal = propose(reference, other, grid, budget)
    assert grid.cost[proposal.chosen].sum() <= budget and proposal.width_then < proposal.width_now
    loss = np.linspace(*proposal.now.losses, 9)
    variance = 0.0
    for which, fitted in enumerate((reference, other)):
        mine = [run for run in proposal.chosen if grid.objective[run] == which]
        inputs = Runs(
            np.append(fitted.inputs.parameters, grid.parameters[mine]),
            np.append(fitted.inputs.tokens, grid.tokens[mine]),
        )
        effects = slopes(CHINCHILLA, fitted.coordinates, inputs)
        slope = slope_of_mean(fitted.coordinates, loss)
        variance += residual_variance(fitted)[0] * slope @ np.linalg.solve(effects.T @ effects, slope)
    ratio = proposal.width_then / proposal.width_now
    half = np.log(proposal.now.high / proposal.now.mean)
    assert proposal.width_now == pytest.approx(2 * half)
    assert np.sqrt(variance) / (half / 2.0010) == pytest.approx(ratio, rel=1e-3)  # Student's quantile of 59 degrees


def test_budget_below_every_candidate_is_refused():
    assert isinstance(propose(*fits(), candidates(), 1.0), Refusal)
