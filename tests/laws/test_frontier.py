import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.laws import Chinchilla, LearningCurve, allocation, frontier, power_law, smoothed_frontier

LAW = Chinchilla(E=0.0, A=400.0, B=2000.0, alpha=0.34, beta=0.36)  # without E, whose L* is a power law


def curves(noise: float = 0.0, sizes: int = 40) -> list[LearningCurve]:
    """Each point of a curve is the loss that its tokens buy."""
    generator = np.random.default_rng(0)
    tokens = np.geomspace(1e7, 1e11, 4000)
    return [
        LearningCurve(
            size,
            tokens,
            6 * size * tokens,
            (LAW.A * size**-LAW.alpha + LAW.B * tokens**-LAW.beta) * np.exp(noise * generator.standard_normal(4000)),
        )
        for size in np.geomspace(1e6, 1e10, sizes)
    ]


def test_frontier_is_the_lower_envelope():
    flops = np.array([4.0, 1.0, 2.0, 2.0, 3.0, 5.0])
    loss = np.array([1.5, 3.0, 2.5, 2.0, 2.2, 1.5])
    assert frontier(flops, loss).tolist() == [1, 3, 0]


@pytest.mark.parametrize("noise, tolerance", [(0.0, 1e-3), (0.01, 5e-3)])
def test_frontier_recovers_the_laws_of_its_surface(noise, tolerance):
    """The closed form of the optimum (Hoffmann et al. 2022, eq. 4); N* steps from size to size, L* does not."""
    best, truth = smoothed_frontier(curves(noise)), allocation(LAW, "six_nonembedding")
    used = best.interior & (best.flops > 1e17) & (best.flops < 1e20)
    assert used.sum() > 300
    flops = best.flops[used]
    exponent = power_law(flops, best.loss[used]).exponent
    assert exponent == pytest.approx(-LAW.alpha * truth.parameters_exponent, abs=tolerance)
    assert power_law(flops, best.parameters[used]).exponent == pytest.approx(truth.parameters_exponent, abs=0.02)
    assert power_law(flops, best.tokens[used]).exponent == pytest.approx(truth.tokens_exponent, abs=0.02)
    np.testing.assert_allclose(6 * best.parameters * best.tokens, best.flops, rtol=1e-9)
    optimal = truth.parameters_coefficient * flops**truth.parameters_exponent
    least = LAW.A * optimal**-LAW.alpha + LAW.B * (flops / 6 / optimal) ** -LAW.beta
    np.testing.assert_allclose(best.loss[used], least, rtol=1e-3 + 2 * noise)


def test_ends_of_the_size_grid_are_not_interior():
    best = smoothed_frontier(curves())
    assert not best.interior[0] and not best.interior[-1]
    assert np.all(best.parameters[best.interior] > 1e6)


def test_smoothing_removes_noise_and_keeps_the_slope():
    """The minimum of many noisy curves lies below all of them. Smoothing leaves a small part of that bias."""
    clean, noisy = (smoothed_frontier(curves(noise, sizes=10)) for noise in (0.0, 0.03))
    low = np.log(noisy.loss / clean.loss)[clean.interior]
    assert -0.02 < low.mean() < 0.005


def test_two_sizes_have_no_frontier():
    with pytest.raises(UserError, match="at least three sizes"):
        smoothed_frontier(curves(sizes=2))
