"""Fits of a law of the loss to runs, for any law and estimator, from many starts or with many weights at once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdlm_jax.errors import UserError
from mdlm_jax.laws.estimators import ESTIMATORS
from mdlm_jax.laws.minimise import minimise
from mdlm_jax.laws.refusal import Refusal, too_far

BATCH = 50  # fits that step together: few, so that they wait little for the slowest and stay in cache
LEAST_RUNS = 64  # smallest number of runs that a program is compiled for
TOLERANCE = 1e-13  # relative decrease of the objective
RIDGE = 1e-9  # share of the largest direction, added to directions that the runs do not determine
EXTENSIVE = ("parameters", "tokens", "unique_tokens")  # inputs with a fitted range
BLIND = 1e-6  # singular value or effect on the loss below which a parameter is not identified


class Law(NamedTuple):
    """A parametric form of the loss. It is hashable, so that one compiled program serves all runs of a shape."""

    values: type  # NamedTuple of its parameters
    logarithmic: tuple[bool, ...]  # which parameters have their logarithm as coordinate, and so are positive
    log_loss: Callable[[Float[Array, "parameters"], Any], Float[Array, "runs"]]  # of (coordinates, inputs)
    starts: Callable[[Any, np.ndarray], np.ndarray]  # of (inputs, loss): a grid of coordinates to start from


class Fit(NamedTuple):
    """A fitted law."""

    law: Law
    estimator: str
    inputs: Any  # NamedTuple of arrays over the runs
    loss: Float[np.ndarray, "runs"]  # nats per token
    free: Bool[np.ndarray, "parameters"]  # False for parameters that stayed at their start
    coordinates: Float[np.ndarray, "parameters"]
    values: Any  # the law's parameters, by name
    scale: float  # mean size of the residuals of ln loss
    objective: float  # sum of the terms of the estimator, at the optimum


class Solutions(NamedTuple):
    """Many fits, one in each row."""

    coordinates: Float[np.ndarray, "fits parameters"]
    objective: Float[np.ndarray, "fits"]


def _extents(inputs: Any) -> dict[str, np.ndarray]:
    """The quantities whose fitted range limits predictions."""
    extents = {name: getattr(inputs, name) for name in EXTENSIVE if name in inputs._fields}
    with np.errstate(over="ignore"):  # an infinite product is refused as too far
        return {**extents, "parameters x tokens": inputs.parameters * inputs.tokens}


def named(law: Law, coordinates: Float[np.ndarray, "*n parameters"]) -> Any:
    """The NamedTuple of the law's parameters: floats, or one array each."""
    columns = np.where(law.logarithmic, np.exp(coordinates), coordinates)
    return law.values(*(float(c) if np.ndim(c) == 0 else c for c in np.moveaxis(columns, -1, 0)))


def _whitening(
    law: Law, coordinates: Float[Array, "p"], inputs: Any, weights: Float[Array, "runs"], free: Bool[Array, "p"]
) -> Float[Array, "p p"]:
    """Directions in which the loss of the runs changes equally; ln A and alpha are nearly the same direction."""
    effects = jax.jacfwd(law.log_loss)(coordinates, inputs) * jnp.sqrt(weights)[:, None] * free
    gram = effects.T @ effects
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


@partial(jax.jit, static_argnums=(0, 1))
def _solve_batch(law: Law, estimator: str, inputs: Any, log_loss: Array, weights: Array, starts: Array, free: Array):
    return jax.vmap(partial(_solve_one, law, estimator, inputs, log_loss))(weights, starts, free)


def solve(
    law: Law,
    estimator: str,
    inputs: Any,
    loss: Float[np.ndarray, "runs"],
    weights: Float[np.ndarray, "fits runs"],
    starts: Float[np.ndarray, "fits parameters"],
    free: Bool[np.ndarray, "fits parameters"],
) -> Solutions:
    """One fit for each row: from `starts`, with each run weighted by `weights`. Only `free` coordinates move."""
    # Batches are filled up, and runs padded with zero weight to a power of two: few programs serve all fits of a law.
    fits, runs = weights.shape
    padded = np.minimum(np.arange(max(LEAST_RUNS, 1 << (runs - 1).bit_length())), runs - 1)
    weights = np.pad(weights, ((0, 0), (0, len(padded) - runs)))
    solved = []
    with jax.enable_x64(True):
        data = jax.tree.map(lambda column: jnp.asarray(column[padded]), (inputs, np.log(loss)))
        for begin in range(0, fits, BATCH):
            rows = np.minimum(np.arange(begin, begin + BATCH), fits - 1)
            each = (jnp.asarray(array[rows]) for array in (weights, starts, free))
            solved.append(jax.tree.map(np.asarray, _solve_batch(law, estimator, *data, *each)))
    return Solutions(*(np.concatenate(arrays)[:fits] for arrays in zip(*solved, strict=True)))


def optimum(
    law: Law, estimator: str, inputs: Any, loss: Float[np.ndarray, "runs"], starts: np.ndarray, free: np.ndarray
) -> tuple[Float[np.ndarray, "parameters"], float]:
    """Coordinates and objective of the best fit from all `starts`."""
    solved = solve(
        law, estimator, inputs, loss, np.ones((len(starts), len(loss))), starts, np.tile(free, (len(starts), 1))
    )
    best = np.nanargmin(solved.objective)
    return solved.coordinates[best], float(solved.objective[best])


_log_loss = jax.jit(
    lambda law, at, inputs: jnp.vectorize(lambda one: law.log_loss(one, inputs), signature="(p)->(r)")(at),
    static_argnums=0,
)
_slopes = jax.jit(lambda law, *at: jax.jacfwd(law.log_loss)(*at), static_argnums=0)


def predict(law: Law, coordinates: Float[np.ndarray, "*n parameters"], inputs: Any) -> Float[np.ndarray, "*n runs"]:
    """ln loss of each run, under one or several fits."""
    with jax.enable_x64(True):
        return np.asarray(_log_loss(law, coordinates, jax.tree.map(jnp.asarray, inputs)))


def slopes(law: Law, coordinates: Float[np.ndarray, "parameters"], inputs: Any) -> Float[np.ndarray, "runs parameters"]:
    """The derivative of the ln loss of each run by each coordinate."""
    with jax.enable_x64(True):
        return np.asarray(_slopes(law, coordinates, jax.tree.map(jnp.asarray, inputs)))


def unidentified(
    law: Law, coordinates: np.ndarray, free: Bool[np.ndarray, "parameters"], inputs: Any
) -> Refusal | None:
    """A refusal that names the free parameters that the runs do not determine, or None."""
    names = np.array(law.values._fields)[free]
    effects = slopes(law, coordinates, inputs)[:, free]
    if len(effects) <= len(names):
        return Refusal(f"{len(effects)} runs do not determine {len(names)} parameters; it takes more")
    sizes = np.sqrt(np.mean(effects**2, axis=0))
    if np.any(sizes < BLIND):
        return Refusal(f"{' and '.join(names[sizes < BLIND])} made no difference to the loss of these runs")
    _, singular, directions = np.linalg.svd(effects / (sizes * np.sqrt(len(effects))))
    if singular[-1] < BLIND:
        mixed = names[np.abs(directions[-1]) > 0.1]
        return Refusal(
            f"these runs cannot tell {' and '.join(mixed)} apart: changed together they leave every loss as it is"
        )
    return None


def fit_law(
    law: Law,
    inputs: Any,
    loss: Float[np.ndarray, "runs"],
    estimator: str = "huber_sum",
    starts: Float[np.ndarray, "starts parameters"] | None = None,
    free: Bool[np.ndarray, "parameters"] | None = None,
) -> Fit | Refusal:
    """The best fit from many starts, refused if the runs do not determine all parameters.

    Args:
        law: CHINCHILLA, MUENNIGHOFF, QUOKKA or one of `shared_law`.
        inputs: The law's NamedTuple of arrays over the runs, such as `Runs(parameters, tokens)`.
        loss: Losses in nats per token.
        estimator: 'huber_sum', 'fitted_scale' or 'squares'.
        starts: Coordinates to start from; the law's own grid by default.
        free: False for coordinates that stay at their start; all are free by default.

    Raises:
        UserError: The estimator is unknown, or a loss or an input is not a positive number.
    """
    if estimator not in ESTIMATORS:
        raise UserError(f"estimator '{estimator}': expected one of {', '.join(ESTIMATORS)}")
    for name, column in {"loss": loss, **_extents(inputs)}.items():
        if not np.all(np.isfinite(column) & (column > 0)):
            run = np.flatnonzero(~(np.isfinite(column) & (column > 0)))[0]
            raise UserError(f"{name} of run {run} is {column[run]}: expected a positive, finite number")
    starts = law.starts(inputs, loss) if starts is None else starts
    free = np.ones(len(law.logarithmic), bool) if free is None else free
    found, objective = optimum(law, estimator, inputs, loss, starts, free)
    if refusal := unidentified(law, found, free, inputs):
        return refusal
    scale = float(np.mean(np.abs(np.log(loss) - predict(law, found, inputs))))
    return Fit(law, estimator, inputs, loss, free, found, named(law, found), scale, objective)


def loss_at(fitted: Fit, inputs: Any) -> Float[np.ndarray, "n"] | Refusal:
    """The predicted loss, refused more than 1.5 decades outside the fitted sizes, tokens or compute."""
    fitted_extents = _extents(fitted.inputs)
    for name, asked in _extents(inputs).items():
        for value in (asked.min(), asked.max()):
            if refusal := too_far(name, value, fitted_extents[name].min(), fitted_extents[name].max()):
                return refusal
    return np.exp(predict(fitted.law, fitted.coordinates, inputs))
