import numpy as np
import pytest
from scipy.stats import norm

from mdlm_jax.errors import UserError
from mdlm_jax.laws import (
    IsoFlop,
    Minimum,
    Multiplier,
    Optima,
    Refusal,
    akima_minimum,
    compute_at,
    compute_multiplier,
    held_out_errors,
    interval,
    isoflop_minimum,
    law_at,
    optima,
    power_law,
)

BUDGETS = (1e10, 3e10, 1e11, 3e11)


def surface(compute_scale=1.0, noise=0.0, seed=0, sizes=4, budgets=BUDGETS, error=0.0, seeds=1) -> list[IsoFlop]:
    """IsoFLOP curves that are exact parabolas in ln N, with L* = 40 C^-0.12 and N* = 0.02 C^0.55, C = 6 N D.

    `compute_scale` is the compute multiplier: what this objective needs over what the plain surface needs.
    """
    generator = np.random.default_rng(seed)
    curves = []
    for budget in budgets:
        effective = budget / compute_scale
        best = 0.02 * effective**0.55
        parameters = np.tile(best * np.geomspace(0.35, 2.2, sizes), seeds)
        loss = 40 * effective**-0.12 + 0.05 * np.log(parameters / best) ** 2
        loss = loss + noise * generator.standard_normal(len(loss))
        curves.append(
            IsoFlop(budget, "six_nonembedding", parameters, budget / (6 * parameters), loss, np.full_like(loss, error))
        )
    return curves


def test_parabola_is_recovered():
    x = np.array([1e4, 2e4, 5e4, 9e4])
    minimum = isoflop_minimum(x, 2.0 + 0.3 * np.log(x / 3e4) ** 2)
    assert minimum.interior
    assert minimum[:3] == pytest.approx((3e4, 2.0, 0.6))


@pytest.mark.parametrize("centre", [5e3, 2e5])
def test_minimum_at_the_edge_is_not_interior(centre):
    x = np.array([1e4, 2e4, 5e4, 9e4])
    loss = 2.0 + 0.3 * np.log(x / centre) ** 2
    minimum = isoflop_minimum(x, loss)
    assert isinstance(minimum, Minimum) and not minimum.interior
    assert (minimum.parameters, minimum.loss) == (x[np.argmin(loss)], loss.min())


def test_maximum_is_no_minimum():
    x = np.array([1e4, 2e4, 5e4])
    assert not isoflop_minimum(x, 2.0 - np.log(x / 2e4) ** 2).interior


@pytest.mark.parametrize("minimum", [isoflop_minimum, akima_minimum])
def test_two_sizes_have_no_minimum(minimum):
    refusal = minimum(np.array([1e4, 1e4, 2e4]), np.array([2.0, 2.1, 2.2]))
    assert isinstance(refusal, Refusal) and "2 sizes" in refusal.reason


def test_akima_interpolates_seed_averages():
    """A parabola of ln L in ln N, sampled evenly around its vertex: Akima's slopes there are the parabola's own."""
    x = np.geomspace(1e4, 9e4, 7)
    minimum = akima_minimum(
        np.repeat(x, 2), np.repeat(2.0 * np.exp(0.3 * np.log(x / 3e4) ** 2), 2) * np.tile([1.01, 1 / 1.01], 7)
    )
    assert minimum.interior
    assert minimum[:3] == pytest.approx((3e4, 2.0, 1.2), rel=1e-9)
    edge = akima_minimum(x, np.log(x))
    assert not edge.interior and (edge.parameters, edge.loss) == pytest.approx((x[0], np.log(x[0])))


def test_power_law_error_matches_least_squares():
    generator = np.random.default_rng(1)
    x = np.geomspace(1, 1e3, 12)
    y = 3 * x**-0.4 * np.exp(0.05 * generator.standard_normal(12))
    (slope, constant), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    law = power_law(x, y)
    assert law.exponent == pytest.approx(slope)
    assert law.coefficient == pytest.approx(np.exp(constant))
    assert law.exponent_error == pytest.approx(np.sqrt(covariance[0, 0]))
    assert np.isnan(power_law(x[:2], y[:2]).exponent_error)
    with pytest.raises(UserError, match="two different x"):
        power_law(x[:1], y[:1])


def test_held_out_errors_match_the_leverage_identity():
    """A least-squares residual divided by one minus its leverage is the error when its point is left out."""
    generator = np.random.default_rng(2)
    x = np.geomspace(1e18, 1e21, 5)
    y = 3 * x**0.5 * np.exp(0.1 * generator.standard_normal(5))
    design = np.stack([np.ones(5), np.log(x)], axis=1)
    hat = design @ np.linalg.pinv(design)
    expected = (np.log(y) - hat @ np.log(y)) / (1 - np.diag(hat))
    assert held_out_errors(x, y) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(UserError, match="two different x"):
        held_out_errors(x[:2], y[:2])


def test_extrapolation_ends_after_one_and_a_half_decades():
    law = power_law(np.array([1e10, 1e12]), np.array([3.0, 2.0]))
    assert isinstance(law_at(law, 3e13), float)
    assert isinstance(law_at(law, 4e13), Refusal)
    assert isinstance(law_at(law, 2e8), Refusal)
    assert compute_at(law, law_at(law, 5e12)) == pytest.approx(5e12)
    assert "decades outside" in compute_at(law, 1.0).reason


def test_surface_is_recovered():
    best = optima(surface(), seed=0)
    assert isinstance(best, Optima)
    assert best.loss_law.exponent == pytest.approx(-0.12, abs=1e-9)
    assert best.loss_law.coefficient == pytest.approx(40, rel=1e-6)
    assert best.parameters_law.exponent == pytest.approx(0.55, abs=1e-9)
    assert best.tokens_law.exponent == pytest.approx(0.45, abs=1e-9)
    assert best.tokens == pytest.approx(np.array(BUDGETS) / (6 * best.parameters))


def test_multiplier_is_recovered():
    multiplier = compute_multiplier(optima(surface(), seed=0), optima(surface(5.0), seed=1))
    assert isinstance(multiplier, Multiplier)
    assert multiplier.value == pytest.approx(np.full(33, 5.0))
    assert multiplier.mean == pytest.approx(5.0)
    losses = 40 * (np.array(BUDGETS) / [[1.0], [5.0]]) ** -0.12
    assert multiplier.loss[[0, -1]] == pytest.approx([losses[1].min(), losses[0].max()])


def test_budget_ranges_may_differ():
    later = surface(5.0, budgets=(1e11, 5e11, 2e12))
    assert compute_multiplier(optima(surface(), seed=0), optima(later, seed=1)).mean == pytest.approx(5.0)


def test_intervals_cover_the_truth():
    """200 small studies of four sizes and four budgets: 95% intervals, so 170 (0.85) is 6 standard errors too low."""
    covered = {"multiplier": 0, "loss": 0, "parameters": 0}
    for study in range(200):
        pair = [
            optima(surface(scale, 0.004, seed=2 * study + i), seed=2 * study + i, replicates=400)
            for i, scale in enumerate((1.0, 3.0))
        ]
        multiplier = compute_multiplier(*pair)
        covered["multiplier"] += multiplier.mean_low <= 3.0 <= multiplier.mean_high
        for name, truth in (("loss", -0.12), ("parameters", 0.55)):
            low, high = interval(getattr(pair[0].sample, f"{name}_exponent"))
            covered[name] += low <= truth <= high
    assert all(count >= 180 for count in covered.values()), covered


def test_intervals_repeat_and_narrow_with_seeds():
    pair = lambda seeds: [  # noqa: E731
        optima(surface(scale, 0.01, seed=i, seeds=seeds), seed=i) for i, scale in enumerate((1.0, 3.0))
    ]
    one, again, many = (compute_multiplier(*pair(seeds)) for seeds in (1, 1, 8))
    assert (one.mean_low, one.mean_high) == (again.mean_low, again.mean_high)
    assert many.mean_high / many.mean_low < one.mean_high / one.mean_low


def test_monte_carlo_error_bounds_noise_from_below():
    exact, noisy = (
        compute_multiplier(*[optima(surface(scale, error=error), seed=i) for i, scale in enumerate((1.0, 3.0))])
        for error in (0.0, 0.01)
    )
    assert exact.mean_high / exact.mean_low < 1.001
    assert noisy.mean_high / noisy.mean_low > 1.02


def test_multiplier_is_refused_without_support():
    plain = optima(surface(), seed=0)
    apart = compute_multiplier(plain, optima(surface(1e4), seed=1))
    assert isinstance(apart, Refusal) and "do not overlap" in apart.reason

    edge = [curve._replace(loss=curve.parameters / curve.parameters.max()) for curve in surface()]
    assert "0 of 4 budgets" in optima(edge, seed=0).reason

    rising = [curve._replace(loss=curve.loss + 3 * i) for i, curve in enumerate(surface())]
    assert "does not clearly fall" in compute_multiplier(plain, optima(rising, seed=1)).reason

    three = optima(surface(sizes=3), seed=1)
    assert "no residual" in compute_multiplier(plain, three).reason
    assert isinstance(compute_multiplier(plain, optima(surface(sizes=3, error=0.01), seed=1)), Multiplier)


@pytest.mark.parametrize("share, refused", [(0.02, False), (0.046, False), (0.054, True), (0.2, True)])
def test_too_many_lost_replicates_are_refused(share, refused):
    """A parabola of noise s has no minimum with probability Phi(-curvature / (s |w|)). At most 5% may be lost."""
    curves = surface(sizes=9)
    per_budget = 1 - (1 - share) ** (1 / len(curves))
    solver = np.linalg.pinv(np.vander(np.log(curves[0].parameters / curves[0].parameters.mean()), 3))
    error = 0.05 / norm.isf(per_budget) / np.linalg.norm(solver[0])
    noisy = [curve._replace(error=np.full(9, error), loss=curve.loss + 1e3) for curve in curves]
    sample = optima(noisy, seed=0, replicates=40_000).sample
    assert isinstance(sample, Refusal) == refused
    if refused:
        assert "of the replicates without a minimum" in sample.reason
    else:
        assert np.isnan(sample.loss_exponent).mean() == pytest.approx(share, abs=0.004)


def test_nonpositive_losses_have_no_law():
    curves = [curve._replace(loss=curve.loss - 10) for curve in surface()]
    assert "budget 1e+10: the least loss, -7.48, is not positive" in optima(curves, seed=0).reason


def one_size(curve: IsoFlop) -> IsoFlop:
    return curve._replace(**{name: getattr(curve, name)[:1] for name in ("parameters", "tokens", "loss", "error")})


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda curve: curve._replace(loss=curve.parameters / 1e9 + 2.5), "the minimum is at the edge of the sizes"),
        (one_size, "1 size makes no parabola, which takes 3"),
        (lambda curve: curve._replace(counter="exact"), "counted in exact, the others in six_nonembedding"),
    ],
)
def test_unusable_budgets_are_left_out_and_named(spoil, reason):
    curves = surface()
    curves[1] = spoil(curves[1])
    best = optima(curves, seed=0)
    assert best.counter == "six_nonembedding"
    assert best.budgets.tolist() == [1e10, 1e11, 3e11]
    assert best.loss_law.exponent == pytest.approx(-0.12, abs=1e-6)
    assert best.left_out == [f"budget 3e+10: {reason}"]
    refusal = optima(curves[:2], seed=0)
    assert isinstance(refusal, Refusal) and f"budget 3e+10: {reason}" in refusal.reason


def test_multiplier_between_counters_is_refused():
    other = [curve._replace(counter="exact") for curve in surface(5.0)]
    refusal = compute_multiplier(optima(surface(), seed=0), optima(other, seed=1))
    assert "counted in six_nonembedding and in exact" in refusal.reason
