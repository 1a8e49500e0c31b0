"""The fits of others, from their data or their coefficients."""

import csv
import json

import numpy as np
import pytest

from mdlm_jax.laws import (
    CHINCHILLA,
    Chinchilla,
    Minimum,
    Runs,
    akima_minimum,
    allocation,
    bootstrap,
    compute_at,
    fit_law,
    interval,
    law_at,
    power_law,
    row_resamples,
)

# SMDM's optima, read off its figures: C, L* and N* (millions) of AR, L* and N* of masked diffusion.
SMDM_OPTIMA = np.array(
    [
        [6e18, 2.846, 152.8, 3.374, 84.1],
        [1e19, 2.749, 225.1, 3.261, 111.0],
        [3e19, 2.555, 444.7, 3.041, 228.7],
        [6e19, 2.448, 627.7, 2.917, 360.9],
        [1e20, 2.378, 1005.6, 2.830, 478.3],
    ]
)


@pytest.fixture(scope="session")
def expected(shared):
    return json.loads((shared / "scaling_data" / "expected.json").read_text())


@pytest.fixture(scope="session")
def hoffmann(shared):
    """240 of Hoffmann et al.'s 245 runs, without the five of highest loss, as Besiroglu et al. fit them."""
    with open(shared / "scaling_data" / "epoch_chinchilla" / "svg_extracted_data.csv") as file:
        rows = list(csv.DictReader(file))
    columns = ("Model Size", "Training FLOP", "loss")
    parameters, flops, loss = (np.array([float(row[column]) for row in rows]) for column in columns)
    assert len(loss) == 245
    kept = np.sort(np.argsort(loss)[:-5])
    return Runs(parameters[kept], flops[kept] / (6 * parameters[kept])), loss[kept]


@pytest.fixture(scope="session")
def huber_sum(hoffmann):
    return fit_law(CHINCHILLA, *hoffmann, "huber_sum")


@pytest.mark.parametrize(
    "estimator, key", [("huber_sum", "huber_sum_optimum"), ("fitted_scale", "joint_scale_optimum")]
)
def test_both_optima_of_the_chinchilla_refit_are_found(hoffmann, expected, estimator, key):
    """Besiroglu et al. 2024 (arXiv 2404.10102)."""
    optimum = expected["epoch_chinchilla"]["fit"][key]
    fitted = fit_law(CHINCHILLA, *hoffmann, estimator)
    for name in Chinchilla._fields:
        assert getattr(fitted.values, name) == pytest.approx(optimum[name], rel=5e-4), name
    if "objective" in optimum:
        assert 1e-3 * fitted.objective == pytest.approx(optimum["objective"], rel=1e-6)
        assert 1e-3 * fitted.objective <= optimum["objective"]


def test_the_size_exponent_and_ratio_of_the_chinchilla_refit_are_found(huber_sum, expected):
    best = allocation(fit_values(expected, "joint_scale_optimum"), "six_total")
    assert best.parameters_exponent == pytest.approx(expected["epoch_chinchilla"]["fit"]["N_exponent"], abs=1e-4)
    flops = 5.88e23
    parameters = best.parameters_coefficient * flops**best.parameters_exponent
    tokens = best.tokens_coefficient * flops**best.tokens_exponent
    assert 6 * parameters * tokens == pytest.approx(flops)
    assert tokens / parameters == pytest.approx(18.4, abs=0.1)
    assert allocation(huber_sum.values, "six_total").parameters_exponent == pytest.approx(0.5126, abs=2e-3)


def fit_values(expected, key) -> Chinchilla:
    optimum = expected["epoch_chinchilla"]["fit"][key]
    return Chinchilla(**{name: optimum[name] for name in Chinchilla._fields})


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


def test_squared_error_of_the_loss_gives_the_other_refit(hoffmann, expected):
    runs, loss = hoffmann
    small = 6 * runs.parameters * runs.tokens < 1e21
    target = expected["chinchilla_mse_217"]
    assert small.sum() == 217
    scaled = Runs(runs.parameters[small] / 1e6, runs.tokens[small] / 1e9)
    fitted = fit_law(CHINCHILLA, scaled, loss[small], "squares")
    for name in Chinchilla._fields:
        assert round(getattr(fitted.values, name), 4) == target[name], name
    squares = 2 * fitted.objective
    assert round(squares, 6) == target["RSS"]
    assert 1 - squares / np.sum((loss[small] - loss[small].mean()) ** 2) == pytest.approx(target["R2"], abs=5e-6)


@pytest.mark.slow
def test_bootstrap_intervals_of_the_chinchilla_refit_are_those_published(huber_sum, expected):
    """4,000 resamples from each of three seeds: every end within 10% of the published one, and of each other's."""
    published = expected["epoch_chinchilla"]["fit"]
    ends = {name: [] for name in Chinchilla._fields}
    for seed in (42, 43, 44):
        sample = bootstrap(huber_sum, row_resamples(240, 4000, seed))
        for name in Chinchilla._fields:
            values = getattr(sample, name)
            ends[name].append(interval(values))
            assert values.std() == pytest.approx(published["se"][name], rel=0.1)
    for name, found in ends.items():
        np.testing.assert_allclose(found, np.tile(published["ci95_bootstrap4000_seed42"][name], (3, 1)), rtol=0.1)


def test_the_published_bootstrap_is_reproduced_draw_by_draw(huber_sum, expected):
    """Its first 400 resamples, drawn as its authors drew them, already lie around the published intervals."""
    generator = np.random.RandomState(42)
    counts = [np.bincount(generator.choice(240, 240, replace=True), minlength=240) for _ in range(400)]
    sample = bootstrap(huber_sum, np.array(counts, float))
    for name, (low, high) in expected["epoch_chinchilla"]["fit"]["ci95_bootstrap4000_seed42"].items():
        inside = np.mean((getattr(sample, name) >= low) & (getattr(sample, name) <= high))
        assert abs(inside - 0.95) < 0.033, (name, inside)  # three standard errors


def test_smdm_exponents_and_gap():
    compute, ar_loss, ar_parameters, masked_loss, masked_parameters = SMDM_OPTIMA.T
    ar, masked = power_law(compute, ar_loss), power_law(compute, masked_loss)
    assert round(ar.exponent, 4) == -0.0642
    assert round(masked.exponent, 4) == -0.0625
    assert np.log(ar.coefficient) == pytest.approx(3.819, abs=2e-3)
    assert np.log(masked.coefficient) == pytest.approx(3.916, abs=2e-3)
    assert round(power_law(compute, ar_parameters).exponent, 3) == 0.642
    assert round(power_law(compute, masked_parameters).exponent, 3) == 0.630
    gaps = [compute_at(masked, law_at(ar, budget)) / budget for budget in (6e18, 1e19, 1e20)]
    assert [round(gap, 1) for gap in gaps] == [15.3, 15.5, 16.5]


def read_porian(shared, name):
    with open(shared / "scaling_data" / "formll_resolving" / name) as file:
        return list(csv.DictReader(file))


def test_published_exponents_of_porian(shared):
    """Porian et al. 2024: 15 fits of N* on C, weighted by the bootstrap variance of N* and not."""
    rows, expected = read_porian(shared, "optimal_pairs.csv"), read_porian(shared, "expected_fits.csv")
    assert len(expected) == 15
    for fit in expected:
        mine = [row for row in rows if row["config"] == fit["config"] and all(row.values())]
        flops, best, spread = (np.array([float(row[key]) for row in mine]) for key in ("flops", "n", "n_star_std"))
        assert power_law(flops, best).exponent == pytest.approx(float(fit["n_exponent_basic"]), abs=5e-5)
        weighted = power_law(flops, best, 1 / spread**2)
        assert weighted.exponent == pytest.approx(float(fit["n_exponent_weighted"]), abs=5e-5)


def test_akima_minima_of_raw_runs_give_the_exponents_of_porian(shared):
    """From the isoFLOP points themselves; the published minima are medians over a bootstrap of seed noise."""
    points, published = read_porian(shared, "isoflop_points.csv"), read_porian(shared, "expected_fits.csv")
    pairs = read_porian(shared, "optimal_pairs.csv")
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
