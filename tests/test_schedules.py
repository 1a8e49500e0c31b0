"""Schedules against the formulas and numbers of their papers and code."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from mdlm_jax import schedules
from mdlm_jax.errors import UserError
from mdlm_jax.schedules import (
    SCHEDULES,
    check_schedule,
    clipped,
    cosine,
    cosine_squared,
    gaussian_argmax,
    geometric,
    geometric_sigma,
    inverse,
    linear,
    noise_rate,
    polynomial,
    step_rate,
    with_ends,
)


def some_times():
    return np.array([1e-3, 0.1, 0.5, 0.9, 1.0])


ALL = {
    "linear": linear,
    "linear with epsilon": lambda: linear(1e-3),
    "cosine": cosine,
    "square": lambda: polynomial(2.0),
    "square root": lambda: polynomial(0.5),
    "geometric": geometric,
}


def exactly(schedule, times):
    """(1 - alpha, -alpha' / (1 - alpha)) in float64."""
    with jax.enable_x64(True):
        return tuple(np.asarray(value) for value in noise_rate(schedule, jnp.asarray(times)))


def total_noise(schedule, times):
    """sigma = -log alpha and its derivative, as SEDD and MDLM write them."""
    noised, rate = exactly(schedule, times)
    return -np.log1p(-noised), rate * noised / (1 - noised)


def test_mdlm_log_linear_values():
    times = np.array([0, 0.001, 0.1, 0.5, 0.9, 1])
    sigma = -np.log1p(-exactly(linear(1e-3), times)[0])
    expected = [0, 0.00099950, 0.10524941, 0.69214767, 2.29362535, 6.90776825]  # float32
    np.testing.assert_allclose(sigma, expected, rtol=2e-6)
    _, slope = total_noise(linear(1e-3), times[1:])
    np.testing.assert_allclose(slope, [0.9999989, 1.1098766, 1.9960042, 9.9008932, 999.01288], rtol=2e-5)


def test_sedd_geometric_values():
    sigma, slope = total_noise(geometric(1e-4, 20.0), np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(sigma, [1e-4, 0.04472136, 20], rtol=1e-6)
    assert slope[1] == pytest.approx(0.5458722, rel=1e-6)


def test_md4_closed_forms():
    """MD4, table 1: 1 - t^w with weight w / t; 1 - cos(pi (1 - t) / 2) with weight (pi / 2) tan(pi (1 - t) / 2)."""
    for power in (0.5, 1.0, 3.0):
        noised, rate = exactly(polynomial(power), some_times())
        np.testing.assert_allclose(noised, some_times() ** power, rtol=1e-12)
        np.testing.assert_allclose(rate, power / some_times(), rtol=1e-12)
    noised, rate = exactly(cosine(), some_times())
    np.testing.assert_allclose(noised, np.cos(np.pi / 2 * (1 - some_times())), rtol=1e-12)
    np.testing.assert_allclose(rate, np.pi / 2 * np.tan(np.pi / 2 * (1 - some_times())), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("schedule", ALL)
def test_increasing_probability(schedule):
    schedule = ALL[schedule]()
    times = np.linspace(1e-6, 1, 1001)
    noised, rate = exactly(schedule, times)
    assert (np.diff(noised) > 0).all() and noised[0] >= 0 and noised[-1] <= 1 and (rate > -1e-15).all()


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("linear", 0, 1),
        ("linear with epsilon", 0, 0.999),
        ("cosine", 0, 1),
        ("square", 0, 1),
        ("geometric", -math.expm1(-1e-4), -math.expm1(-20.0)),
    ],
)
def test_ends(name, first, last):
    with jax.enable_x64(True):
        ends = np.asarray(ALL[name]()(jnp.array([0.0, 1.0])))
    np.testing.assert_allclose(ends, [first, last], rtol=1e-12)


@pytest.mark.parametrize("schedule", ALL)
def test_slope_is_the_derivative(schedule):
    schedule = ALL[schedule]()
    step = 1e-6
    noised, rate = exactly(schedule, some_times()[1:-1])
    difference = (exactly(schedule, some_times()[1:-1] + step)[0] - exactly(schedule, some_times()[1:-1] - step)[0]) / (
        2 * step
    )
    np.testing.assert_allclose(rate * noised, difference, rtol=1e-7)


@pytest.mark.parametrize("schedule", [*ALL, "cube"])
def test_float32_precision_near_zero(schedule):
    """At t = 1e-6 .. 1e-2, where 1 - (1 - t^3) has no digits left."""
    schedule = polynomial(3.0) if schedule == "cube" else ALL[schedule]()
    times = np.logspace(-6, -2, 50, dtype=np.float32)
    for single, double in zip(noise_rate(schedule, jnp.asarray(times)), exactly(schedule, times), strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-5)


def test_names():
    assert set(SCHEDULES) == {
        "linear",
        "log_linear",
        "linear_sigma",
        "cosine",
        "mdlm_cosine",
        "cosine_squared",
        "polynomial",
        "square_root",
        "logarithmic",
        "geometric",
    }


NEW = {
    "cosine_squared": lambda t: 1 - np.cos(np.pi / 2 * t) ** 2,
    "square_root": np.sqrt,
    "logarithmic": lambda t: np.log(1 + t) / np.log(2),
}


@pytest.mark.parametrize("name", NEW)
def test_mdlm_and_bd3lm_formulas(name):
    noised, rate = exactly(SCHEDULES[name](), some_times())
    np.testing.assert_allclose(noised, NEW[name](some_times()), rtol=1e-13, atol=1e-15)
    step = 1e-6
    inside = slice(0, -1)  # a difference needs both sides
    slope = (NEW[name](some_times()[inside] + step) - NEW[name](some_times()[inside] - step)) / (2 * step)
    np.testing.assert_allclose((rate * noised)[inside], slope, rtol=1e-6)


def test_clipped_schedule():
    """The range from low to high, stretched over all times."""
    noised, rate = exactly(clipped(linear(), 0.3, 0.8), np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(noised, [0.3, 0.55, 0.8])
    np.testing.assert_allclose(rate * noised, 0.5)
    with pytest.raises(UserError, match=r"low=0.8, high=0.3; accepted: 0 <= low < high <= 1"):
        clipped(linear(), 0.8, 0.3)


def test_md4_epsilon_at_both_ends():
    noised, _ = exactly(with_ends(cosine(), 1e-4), np.array([0.0, 1.0]))
    np.testing.assert_allclose(noised, [1e-4, 1 - 1e-4], rtol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize("vocab", [2, 3, 100, 50257])
def test_gaussian_argmax_matches_the_integral(vocab):
    """alpha = V / (V - 1) [integral of phi(z - mu) Phi(z)^(V - 1) dz - 1 / V], mu = a / sqrt(1 - a^2), a = 1 - t."""

    def integral(t):
        mu = (1 - t) / np.sqrt(1 - (1 - t) ** 2)
        wins = quad(lambda z: norm.pdf(z - mu) * np.exp((vocab - 1) * norm.logcdf(z)), mu - 12, mu + 12, epsabs=1e-12)
        return 1 - vocab / (vocab - 1) * (wins[0] - 1 / vocab)

    times = np.array([0.01, 0.02, 0.05, 0.3, 0.8])
    noised, rate = exactly(gaussian_argmax(vocab), times)
    np.testing.assert_allclose(noised, [integral(t) for t in times], atol=1e-7)
    slope = [(integral(t + 1e-4) - integral(t - 1e-4)) / 2e-4 for t in times]
    np.testing.assert_allclose(rate * noised, slope, rtol=1e-3, atol=1e-3)


def test_gaussian_argmax_matches_samples():
    """Samples are the argmax of noised one-hot vectors."""
    vocab, num, t = 5, 400_000, 0.3
    a = 1 - t
    vectors = a * np.eye(vocab)[0] + np.sqrt(1 - a**2) * np.random.default_rng(0).normal(size=(num, vocab))
    kept = (vectors.argmax(axis=1) == 0).mean()
    noised = float(exactly(gaussian_argmax(vocab), np.array([t]))[0][0])
    expected = 1 - noised * (vocab - 1) / vocab
    assert abs(kept - expected) < 5 * np.sqrt(expected * (1 - expected) / num)


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_squared", "square_root", "logarithmic"])
def test_float32_weights_at_small_times(name):
    times = np.array([1e-6, 1e-5, 1e-3], np.float32)
    single = noise_rate(SCHEDULES[name](), jnp.asarray(times))
    for one, double in zip(single, exactly(SCHEDULES[name](), times.astype(np.float64)), strict=True):
        np.testing.assert_allclose(one, double, rtol=1e-6)


def test_decreasing_schedule_is_refused():
    for schedule in [*(make() for make in ALL.values()), gaussian_argmax(7), clipped(cosine(), 0.2, 0.7)]:
        check_schedule("schedule", schedule)
    with pytest.raises(UserError, match=r"schedule: P\(noised\) is .* at t=.*; accepted: a schedule that never falls"):
        check_schedule("schedule", lambda t: jnp.sin(3 * t))


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"polynomial"}))
def test_noise_rate_matches_total_noise(name):
    """SEDD's sigma' / (e^sigma - 1), with sigma = -log alpha, is -alpha' / (1 - alpha)."""
    with jax.enable_x64(True):
        t, schedule = jnp.linspace(0.05, 0.95, 19), SCHEDULES[name]()
        sigma, slope = jax.jvp(lambda t: -jnp.log1p(-schedule(t)), (t,), (jnp.ones_like(t),))
        np.testing.assert_allclose(slope / jnp.expm1(sigma), noise_rate(schedule, t)[1], rtol=1e-12)


def test_total_noise_matches_mdlm_code():
    """sigma of its schedules with epsilon 1e-3 (`noise_schedule.py`)."""
    times = jnp.array([0.0, 0.1, 0.5, 0.9, 1.0])
    published = {
        "log_linear": [0, 0.10524941, 0.69214767, 2.29362535, 6.90776825],
        "mdlm_cosine": [0, 0.012376, 0.346159, 1.849740, 6.907799],
        "linear_sigma": [0, 1, 5, 9, 10],
    }
    for name, sigma in published.items():
        np.testing.assert_allclose(schedules.total_noise(SCHEDULES[name]())(times), sigma, rtol=2e-4, atol=1e-7)
    with jax.enable_x64(True):
        half = jnp.float64(0.5)
        np.testing.assert_allclose(schedules.total_noise(cosine_squared(1e-3))(half), 0.692148, rtol=1e-6)
        np.testing.assert_allclose(geometric_sigma()(half), 0.04472136, rtol=1e-6)


@pytest.mark.parametrize("schedule", ALL)
def test_inverse(schedule):
    schedule = ALL[schedule]()
    times = np.linspace(0.05, 0.95, 7)
    noised = schedule(jnp.asarray(times, jnp.float32))
    slope = exactly(schedule, times)[0] * exactly(schedule, times)[1]
    error = np.abs(np.asarray(inverse(schedule)(noised)) - times)
    assert (error < 3e-7 + 3e-7 / np.maximum(slope, 1e-3)).all()


@pytest.mark.parametrize("steps", [10, 1000])
def test_rate_of_the_second_step(steps):
    """t^2 masks 1 of 4 parts in the first step and 3 in the second: the probability of a step over its width."""
    assert float(step_rate(polynomial(2.0), jnp.float32(2 / steps), 1 / steps)) == pytest.approx(0.75 * steps, rel=1e-5)
