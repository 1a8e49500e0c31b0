"""The fits of others, from their data or their coefficients."""

import numpy as np
import pytest

from mdlm_jax.laws import Chinchilla, Minimum, akima_minimum, allocation, compute_at, law_at, power_law
from tests.public_data import porian

# SMDM's optima, read off its figures: C, L* and N* (millions) of AR, L* and N* of masked diffusion.
SMDM_OPTIMA = (
    (6e18, 2.846, 152.8, 3.374, 84.1),
    (1e19, 2.749, 225.1, 3.261, 111.0),
    (3e19, 2.555, 444.7, 3.041, 228.7),
    (6e19, 2.448, 627.7, 2.917, 360.9),
    (1e20, 2.378, 1005.6, 2.830, 478.3),
)


def test_best_ratio_of_the_chinchilla_refit():
    """Besiroglu et al. 2024 (arXiv 2404.10102): about 20 tokens a parameter at Chinchilla's compute."""
    best = allocation(Chinchilla(1.81686, 482.00572, 2085.4342, 0.34781, 0.36585), "six_total")
    assert best.parameters_exponent == pytest.approx(0.5126, abs=1e-4)
    flops = 5.88e23
    parameters = best.parameters_coefficient * flops**best.parameters_exponent
    tokens = best.tokens_coefficient * flops**best.tokens_exponent
    assert 6 * parameters * tokens == pytest.approx(flops)
    assert tokens / parameters == pytest.approx(18.4, abs=0.1)


@pytest.mark.parametrize(
    "law, exponent, parameters_coefficient, tokens_coefficient",
    [
        (Chinchilla(1.69, 406.4, 410.7, 0.33917, 0.28491), 0.4565, None, None),  # Hoffmann et al. 2022, approach 3
        (Chinchilla(2.413, 798.6, 4604.9, 0.379, 0.378), 0.4993, 0.0405, 4.112),  # Quokka, eq. 13
    ],
)
def test_published_laws_have_their_published_optima(law, exponent, parameters_coefficient, tokens_coefficient):
    best = allocation(law, "six_nonembedding")
    assert best.parameters_exponent == pytest.approx(exponent, abs=1e-4)
    assert best.counter == "six_nonembedding"
    if parameters_coefficient is not None:
        assert best.parameters_coefficient == pytest.approx(parameters_coefficient, rel=2e-3)
        assert best.tokens_coefficient == pytest.approx(tokens_coefficient, rel=2e-3)


def test_smdm_exponents_and_gap():
    compute, ar_loss, ar_parameters, masked_loss, masked_parameters = np.transpose(SMDM_OPTIMA)
    ar, masked = power_law(compute, ar_loss), power_law(compute, masked_loss)
    assert round(ar.exponent, 4) == -0.0642
    assert round(masked.exponent, 4) == -0.0625
    assert np.log(ar.coefficient) == pytest.approx(3.819, abs=2e-3)
    assert np.log(masked.coefficient) == pytest.approx(3.916, abs=2e-3)
    assert round(power_law(compute, ar_parameters).exponent, 3) == 0.642
    assert round(power_law(compute, masked_parameters).exponent, 3) == 0.630
    gaps = [compute_at(masked, law_at(ar, budget)) / budget for budget in (6e18, 1e19, 1e20)]
    assert [round(gap, 1) for gap in gaps] == [15.3, 15.5, 16.5]


def test_published_exponents_of_porian():
    """Porian et al. 2024: 15 fits of N* on C, weighted by the bootstrap variance of N* and not."""
    rows, expected = porian("optimal_pairs"), porian("expected_fits")
    assert len(expected) == 15
    for fit in expected:
        mine = [row for row in rows if row["config"] == fit["config"] and all(row.values())]
        flops, best, spread = (np.array([float(row[key]) for row in mine]) for key in ("flops", "n", "n_star_std"))
        assert power_law(flops, best).exponent == pytest.approx(float(fit["n_exponent_basic"]), abs=5e-5)
        weighted = power_law(flops, best, 1 / spread**2)
        assert weighted.exponent == pytest.approx(float(fit["n_exponent_weighted"]), abs=5e-5)


def test_akima_minima_give_the_exponents_of_porian():
    """The minima come from the isoFLOP points; the published ones are medians over a bootstrap of seed noise."""
    points, published = porian("isoflop_points"), porian("expected_fits")
    pairs = porian("optimal_pairs")
    for fit in published:
        used = {float(row["flops"]) for row in pairs if row["config"] == fit["config"] and all(row.values())}
        budgets, best = [], []
        for budget in sorted(used):
            mine = [row for row in points if row["config"] == fit["config"] and float(row["flops"]) == budget]
            parameters, loss = (np.array([float(row[key]) for row in mine]) for key in ("n", "loss"))
            minimum = akima_minimum(parameters, loss)
            assert isinstance(minimum, Minimum)
            budgets.append(budget)
            best.append(minimum.parameters)
        exponent = power_law(np.array(budgets), np.array(best)).exponent
        assert exponent == pytest.approx(float(fit["n_exponent_basic"]), abs=0.02), fit["config"]
