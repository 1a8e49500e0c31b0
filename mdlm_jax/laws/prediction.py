"""Predictions of a fitted law: with an interval for the mean over seeds and for one new run, and how far outside."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.resampling import interval
from mdlm_jax.laws.surface import Fit, loss_at, predict
from mdlm_jax.laws.uncertainty import residual_variance

NOISES = 16  # new runs drawn for each bootstrap draw
CLOSED = 1e4  # weight of the condition that the weights of a hull sum to one
INSIDE = 1e-6  # decades below which a distance is that of rounding


class Prediction(NamedTuple):
    """Predicted losses in nats per token, with 95% intervals."""

    loss: Float[np.ndarray, "n"]
    low: Float[np.ndarray, "n"]  # of the mean over seeds
    high: Float[np.ndarray, "n"]
    run_low: Float[np.ndarray, "n"]  # of one new run, the noise between runs included
    run_high: Float[np.ndarray, "n"]
    distance: Float[np.ndarray, "n"]  # decades outside the fitted runs; 0 between them


def hull_distance(inputs: Any, asked: Any) -> Float[np.ndarray, "n"]:
    """The distance of each point from the convex hull of the fitted runs, in decades of the inputs; 0 inside.

    Args:
        inputs: A NamedTuple of arrays over the fitted runs, such as `Runs`.
        asked: The same of the points.
    """
    runs = np.log10(np.stack([np.asarray(column, float) for column in inputs]))
    system = np.concatenate([runs, np.full((1, runs.shape[1]), CLOSED)])
    distances = []
    for point in np.log10(np.stack([np.asarray(column, float) for column in asked])).T:
        weights = nnls(system, np.append(point, CLOSED))[0]
        distances.append(np.linalg.norm(runs @ (weights / weights.sum()) - point))
    return np.where(np.array(distances) < INSIDE, 0.0, distances)


def predict_loss(
    fitted: Fit, draws: Float[np.ndarray, "draws parameters"], asked: Any, seed: int = 0
) -> Prediction | Refusal:
    """The loss at points of a fitted law, refused more than 1.5 decades outside the fitted sizes, tokens or compute.

    The interval of the mean is that of the draws. That of a new run adds normal noise of ln loss. Its variance is that
    of the runs around the law, drawn anew from its scaled inverse chi-squared distribution: Student's tails.

    Args:
        fitted: The fit to all runs.
        draws: Coordinates refitted to resamples, as from `refitted`.
        asked: The law's NamedTuple of inputs, with an array over the points for each.
        seed: Seed of the noise of a new run.
    """
    loss = loss_at(fitted, asked)
    if isinstance(loss, Refusal):
        return loss
    means = predict(fitted.law, draws, asked)
    variance, degrees = residual_variance(fitted)
    generator = np.random.default_rng(seed)
    variances = variance * degrees / generator.chisquare(degrees, (NOISES, len(draws), 1))
    runs = means + np.sqrt(variances) * generator.standard_normal((NOISES, *means.shape))
    low, high = np.exp(interval(means))
    run_low, run_high = np.exp(interval(runs.reshape(-1, means.shape[1])))
    return Prediction(loss, low, high, run_low, run_high, hull_distance(fitted.inputs, asked))
