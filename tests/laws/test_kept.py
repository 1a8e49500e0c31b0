"""Kept fits load again to the last bit, damaged files are one line, and predictions agree with closed forms."""

import functools

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.laws import (
    CHINCHILLA,
    Refusal,
    Runs,
    fit_law,
    hull_distance,
    keep,
    predict_loss,
    read_fits,
    shared_law,
    write_fits,
)
from mdlm_jax.laws.surface import slopes
from mdlm_jax.laws.uncertainty import covariance, residual_variance
from tests.laws.known import NOISE, known_fit, known_runs


@functools.cache
def kept():
    return known_fit()


def test_fits_load_again(tmp_path):
    write_fits(tmp_path / "fits.json", {"masked": kept()})
    (name,), (read,) = zip(*read_fits(tmp_path / "fits.json").items(), strict=True)
    assert name == "masked"
    assert read.fitted.law is CHINCHILLA
    for before, after in zip(kept().fitted[1:], read.fitted[1:], strict=True):
        assert np.array_equal(before, after)
    assert np.array_equal(kept().draws, read.draws)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-99], "not whole JSON"),
        (lambda text: "[1]", "holds no fits"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "version is 9, this program reads 1"),
        (lambda text: text.replace("chinchilla", "kaplan"), "key 'law' is 'kaplan'; accepted: chinchilla"),
        (lambda text: text.replace("squares", "cubes"), "key 'estimator' is 'cubes'"),
        (lambda text: text.replace('"loss": [', '"loss": [NaN, '), "key 'loss' is damaged"),
        (lambda text: text.replace('"tokens": [', '"tokens": [3.0, '), "key 'tokens' is damaged; expected 64"),
        (lambda text: text.replace('"draws": [[', '"draws": [[3.0, '), "key 'draws' is damaged; expected n x 5"),
        (lambda text: text.replace('"coordinates": [', '"coordinates": ["x", '), "key 'coordinates' is damaged"),
        (lambda text: '{"version": 1, "fits": {"ar": 3}}', "fit ar: expected an object"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, damage, message):
    path = tmp_path / "fits.json"
    write_fits(path, {"masked": kept()})
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=message) as raised:
        read_fits(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_only_known_laws_are_written(tmp_path):
    strange = kept()._replace(fitted=kept().fitted._replace(law=shared_law(("a", "b"))))
    with pytest.raises(UserError, match="accepted: chinchilla, muennighoff, quokka"):
        write_fits(tmp_path / "fits.json", {"masked": strange})
    with pytest.raises(UserError, match="cannot be written"):
        write_fits(tmp_path / "none" / "fits.json", {"masked": kept()})
    assert not list(tmp_path.iterdir())


def test_resamples_without_a_fit_are_refused(monkeypatch):
    lost = np.where(np.arange(1000) < 60, np.nan, 1.0)[:, None] * kept().draws[:1000]
    monkeypatch.setattr("mdlm_jax.laws.kept.refitted", lambda *_: lost)
    assert keep(kept().fitted, 1000, seed=0) == Refusal("6% of the resamples determine no fit")


def test_draws_have_the_covariance_of_the_fit():
    fitted, draws = keep(fit_law(CHINCHILLA, *known_runs(), "squares"), 1000, seed=0)
    spread = np.sqrt(np.diag(covariance(fitted)))
    assert draws.std(axis=0) == pytest.approx(spread, rel=0.3)
    assert np.all(np.abs(draws.mean(axis=0) - fitted.coordinates) < 0.3 * spread)


def test_intervals_agree_with_the_delta_method():
    """With little noise the law is linear: the variance of the mean is g' S g, and a new run adds that of a run."""
    asked = Runs(np.array([3e7, 1e9, 4e9]), np.array([1e10, 1e11, 4e11]))
    fitted, draws = kept()
    found = predict_loss(fitted, draws, asked)
    slope = slopes(CHINCHILLA, fitted.coordinates, asked)
    mean = np.einsum("np,pq,nq->n", slope, covariance(fitted), slope)
    run = mean + residual_variance(fitted)[0]
    for variance, low, high in ((mean, found.low, found.high), (run, found.run_low, found.run_high)):
        assert np.log(high / low) / (2 * 1.96) == pytest.approx(np.sqrt(variance), rel=0.05)
    assert residual_variance(fitted)[0] == pytest.approx(NOISE**2, rel=0.35)


def test_distance_from_a_square_of_runs():
    """Decades to the nearest edge or corner of the fitted runs, and 0 inside."""
    parameters = np.array([1e7, 1e9, 5e8, 3e7, 2e7, 5e7, 9e8])
    tokens = np.array([2e10, 1e9, 1e10, 7e9, 3e9, 1e11, 4e10])
    asked = Runs(parameters, tokens)
    assert hull_distance(kept().fitted.inputs, asked) == pytest.approx(0, abs=1e-6)
    outside = Runs(np.array([1e10, 1e8, 1e6]), np.array([1e10, 1e12, 1e8]))
    assert hull_distance(kept().fitted.inputs, outside) == pytest.approx([1, 1, 2**0.5], abs=1e-5)


def test_distance_from_runs_of_one_budget():
    """Runs on a line have a hull without area: 10 times the budget is half a square root of two away."""
    parameters = np.geomspace(1e7, 1e9, 5)
    line = Runs(parameters, 1e18 / parameters)
    assert hull_distance(line, Runs(np.array([1e8]), np.array([1e11]))) == pytest.approx(2**-0.5, abs=1e-5)


def test_far_predictions_are_refused():
    assert "decades outside" in predict_loss(*kept(), Runs(np.array([1e11]), np.array([1e10]))).reason
