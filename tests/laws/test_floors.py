"""The multiplier under an irreducible loss, on curves that have one and on curves that do not."""

import numpy as np
import pytest

from mdlm_jax.laws import IsoFlop, Refusal, compute_multiplier, optima
from mdlm_jax.laws.floors import multiplier_with_floor

RATIO = 20.0


def curves(floor, ratio, exponent=0.3, noise=0.0, seed=0, budgets=(1e9, 1e10, 1e11, 1e12)):
    """Parabolas whose least loss is floor + 900 (C / ratio)^-exponent."""
    generator, found = np.random.default_rng(seed), []
    for budget in budgets:
        least = floor + 900 * (budget / ratio) ** -exponent
        parameters = np.geomspace(0.3, 3, 5) * budget**0.5
        loss = least + 0.02 * np.log(parameters / budget**0.5) ** 2 + noise * generator.standard_normal(5)
        error = np.full(5, 1e-9)
        found.append(IsoFlop(budget, "six_nonembedding", parameters, budget / 6 / parameters, loss, error))
    return found


@pytest.mark.parametrize("floor", [0.0, 1.5])
def test_multiplier_is_exact_without_noise(floor):
    found = multiplier_with_floor(optima(curves(floor, 1.0), 0, 50), optima(curves(floor, RATIO), 1, 50))
    assert found.floor == pytest.approx(floor, abs=1e-4)
    assert found.multiplier.mean == pytest.approx(RATIO, rel=1e-3)
    assert found.multiplier.value == pytest.approx(RATIO, rel=3e-3)


def test_power_law_alone_is_biased_where_losses_are_near_their_floor():
    """The pure power law bends away from curves with a floor, and its multiplier with the loss."""
    reference, other = optima(curves(1.5, 1.0), 0, 50), optima(curves(1.5, RATIO), 1, 50)
    pure = compute_multiplier(reference, other)
    assert abs(np.log(pure.mean / RATIO)) > 0.2
    assert abs(np.log(multiplier_with_floor(reference, other).multiplier.mean / RATIO)) < 1e-3


def test_interval_covers_the_truth():
    covered = []
    for seed in range(10):
        pair = [
            optima(curves(1.5, ratio, noise=0.004, seed=2 * seed + i), i, 200) for i, ratio in enumerate((1, RATIO))
        ]
        found = multiplier_with_floor(*pair)
        covered.append(found.multiplier.mean_low <= RATIO <= found.multiplier.mean_high)
    assert sum(covered) >= 8  # of 10 at 95%: fewer has probability 0.01


def test_refusals():
    reference = optima(curves(1.5, 1.0)[:2], 0, 50)
    assert "takes 6 minima" in multiplier_with_floor(reference, optima(curves(1.5, 2.0)[:2], 1, 50)).reason
    far = optima(curves(5.0, 1.0), 1, 50)
    assert isinstance(multiplier_with_floor(optima(curves(1.5, 1e-3), 0, 50), far), Refusal)
