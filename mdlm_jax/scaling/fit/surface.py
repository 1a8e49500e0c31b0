"""Fits of a law of the loss to runs: any law, any estimator, from many starts or with many weights at once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdlm_jax.errors import UserError
from mdlm_jax.scaling.fit.estimators import ESTIMATORS
from mdlm_jax.scaling.fit.minimise import minimise
from mdlm_jax.scaling.fit.refusal import Refusal, too_far

BATCH = 50  # fits that step together: few enough to wait little for the slowest and to stay in cache
TOLERANCE = 1e-13  # relative decrease of the objective
RIDGE = 1e-9  # of the largest direction: what a direction that the runs do not see is stepped by
EXTENSIVE = ("parameters", "tokens", "unique_tokens")  # inputs that a prediction may lie far from
BLIND = 1e-6  # singular value, or effect on the loss, below which nothing is identified


class Law(NamedTuple):
    """A form of the loss. Hashable, so that one compiled program serves all runs of a shape."""

    values: type  # NamedTuple of its parameters, which names and orders them
    logarithmic: tuple[bool, ...]  # which of them are fitted as logarithms, and so positive: the coordinates of a fit
    log_loss: Callable[[Float[Array, "parameters"], Any], Float[Array, "runs"]]  # of (coordinates, inputs)
    starts: Callable[[Any, np.ndarray], np.ndarray]  # of (inputs, loss): a grid of coordinates to start from


class Fit(NamedTuple):
    law: Law
    estimator: str
    inputs: Any  # NamedTuple of arrays, one place per run
    loss: Float[np.ndarray, "runs"]  # nats per token
    free: Bool[np.ndarray, "parameters"]  # False for what was held at its start
    coordinates: Float[np.ndarray, "parameters"]
    values: Any  # the law's parameters, by name
    scale: float  # mean size of the residuals of ln loss
    objective: float  # what the estimator sums, at the optimum


class Solutions(NamedTuple):
    """One fit a row."""

    coordinates: Float[np.ndarray, "fits parameters"]
    objective: Float[np.ndarray, "fits"]


def named(law: Law, coordinates: Float[np.ndarray, "*n parameters"]) -> Any:
    """The law's own NamedTuple of the parameters: floats, or one array each."""
    columns = np.where(law.logarithmic, np.exp(coordinates), coordinates)
    return law.values(*(float(c) if np.ndim(c) == 0 else c for c in np.moveaxis(columns, -1, 0)))


def _whitening(
    law: Law, coordinates: Float[Array, "p"], inputs: Any, weights: Float[Array, "runs"], free: Bool[Array, "p"]
) -> Float[Array, "p p"]:
    """Steps along which the loss of the runs changes alike; ln A and alpha are 99.9% the same direction."""
    slopes = jax.jacfwd(law.log_loss)(coordinates, inputs) * jnp.sqrt(weights)[:, None] * free
    gram = slopes.T @ slopes
    gram += (RIDGE * jnp.trace(gram) + 1e-30) * jnp.eye(len(gram))
    return jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(gram).T, jnp.eye(len(gram))) * free[:, None]


def _solve_one(law: Law, estimator: str, inputs: Any, log_loss: Array, weights: Array, start: Array, free: Array):
    terms, thresholds, _ = ESTIMATORS[estimator]
    count = len(start)

    def stage(carry, threshold):
        coordinates, log_scale, _ = carry
        whitening = _whitening(law, coordinates, inputs, weights, free)

        def objective(step):
            predicted = law.log_loss(coordinates + whitening @ step[:count], inputs)
            return jnp.sum(weights * terms(log_loss, predicted, log_scale + step[count], threshold))

        found = minimise(objective, jnp.zeros(count + 1), TOLERANCE)  # of steps and the change of ln scale
        return (coordinates + whitening @ found.point[:count], log_scale + found.point[count], found.value), None

    residual = jnp.abs(log_loss - law.log_loss(start, inputs))
    log_scale = jnp.log(jnp.sum(weights * residual) / jnp.sum(weights) + jnp.finfo(start.dtype).tiny)
    coordinates, _, value = jax.lax.scan(stage, (start, log_scale, jnp.zeros(())), jnp.array(thresholds))[0]
    return coordinates, value


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve_all(law: Law, estimator: str, batch: int, inputs: Any, log_loss: Array, each: tuple[Array, Array, Array]):
    one = lambda fit: _solve_one(law, estimator, inputs, log_loss, *fit)  # noqa: E731
    return jax.lax.map(one, each, batch_size=batch)


def solve(
    law: Law,
    estimator: str,
    inputs: Any,
    loss: Float[np.ndarray, "runs"],
    weights: Float[np.ndarray, "fits runs"],
    starts: Float[np.ndarray, "fits parameters"],
    free: Bool[np.ndarray, "fits parameters"],
) -> Solutions:
    """One fit a row: from `starts`, with each run counted `weights` times; what is not `free` stays at its start."""
    fits = len(weights)
    batch = min(BATCH, fits)
    rows = np.minimum(np.arange(-(-fits // batch) * batch), fits - 1)  # whole batches: one program, not two
    with jax.enable_x64(True):
        each = tuple(jnp.asarray(array[rows]) for array in (weights, starts, free))
        solved = _solve_all(law, estimator, batch, jax.tree.map(jnp.asarray, inputs), jnp.log(loss), each)
    return Solutions(*(np.asarray(array)[:fits] for array in solved))


def optimum(
    law: Law, estimator: str, inputs: Any, loss: Float[np.ndarray, "runs"], starts: np.ndarray, free: np.ndarray
) -> tuple[Float[np.ndarray, "parameters"], float]:
    """Coordinates and objective of the best of the fits from all `starts`."""
    solved = solve(
        law, estimator, inputs, loss, np.ones((len(starts), len(loss))), starts, np.tile(free, (len(starts), 1))
    )
    best = np.nanargmin(solved.objective)
    return solved.coordinates[best], float(solved.objective[best])


@partial(jax.jit, static_argnums=0)
def _predict(law: Law, coordinates: Array, inputs: Any) -> tuple[Array, Array]:
    return law.log_loss(coordinates, inputs), jax.jacfwd(law.log_loss)(coordinates, inputs)


def predict(law: Law, coordinates: Float[np.ndarray, "parameters"], inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """ln loss of each run [runs], and how it changes with each coordinate [runs, parameters]."""
    with jax.enable_x64(True):
        log_loss, slopes = _predict(law, jnp.asarray(coordinates), jax.tree.map(jnp.asarray, inputs))
        return np.asarray(log_loss), np.asarray(slopes)


def _unidentified(names: np.ndarray, slopes: Float[np.ndarray, "runs parameters"]) -> Refusal | None:
    sizes = np.sqrt(np.mean(slopes**2, axis=0))
    if np.any(sizes < BLIND):
        return Refusal(f"{' and '.join(names[sizes < BLIND])} made no difference to the loss of these runs")
    _, singular, directions = np.linalg.svd(slopes / (sizes * np.sqrt(len(slopes))))
    if singular[-1] < BLIND:
        mixed = names[np.abs(directions[-1]) > 0.1]
        return Refusal(f"these runs cannot tell {' and '.join(mixed)} apart: together they change and no loss does")
    return None


def fit_law(
    law: Law,
    inputs: Any,
    loss: Float[np.ndarray, "runs"],
    estimator: str = "huber_sum",
    starts: Float[np.ndarray, "starts parameters"] | None = None,
    free: Bool[np.ndarray, "parameters"] | None = None,
) -> Fit | Refusal:
    """The best fit from the law's grid of starts (or `starts`); what is not `free` stays where it starts.

    Refused where there are not more runs than parameters, or where the runs leave parameters undetermined. Raises
    UserError for an estimator that there is none of, or a loss that is not a positive number.
    """
    if estimator not in ESTIMATORS:
        raise UserError(f"estimator '{estimator}': expected one of {', '.join(ESTIMATORS)}")
    if not np.all(np.isfinite(loss) & (loss > 0)):
        raise UserError(f"loss {loss[~(np.isfinite(loss) & (loss > 0))][0]}: expected positive, finite nats per token")
    starts = law.starts(inputs, loss) if starts is None else starts
    free = np.ones(len(law.logarithmic), bool) if free is None else free
    if len(loss) <= free.sum():
        return Refusal(f"{len(loss)} runs do not determine {free.sum()} parameters; it takes more runs than parameters")
    found, objective = optimum(law, estimator, inputs, loss, starts, free)
    log_loss, slopes = predict(law, found, inputs)
    if refusal := _unidentified(np.array(law.values._fields)[free], slopes[:, free]):
        return refusal
    scale = float(np.mean(np.abs(np.log(loss) - log_loss)))
    return Fit(law, estimator, inputs, loss, free, found, named(law, found), scale, objective)


def loss_at(fitted: Fit, inputs: Any) -> Float[np.ndarray, "n"] | Refusal:
    """The loss that the fit predicts. Refused more than 1.5 decades outside what was fitted: in any of the inputs, or
    in their product, the compute."""
    for name in set(EXTENSIVE) & set(inputs._fields):
        seen, asked = getattr(fitted.inputs, name), getattr(inputs, name)
        for value in (asked.min(), asked.max()):
            if refusal := too_far(f"{name.replace('_', ' ')}", value, seen.min(), seen.max()):
                return refusal
    seen, asked = (x.parameters * x.tokens for x in (fitted.inputs, inputs))
    for value in (asked.min(), asked.max()):
        if refusal := too_far("parameters x tokens", value, seen.min(), seen.max()):
            return refusal
    return np.exp(predict(fitted.law, fitted.coordinates, inputs)[0])
