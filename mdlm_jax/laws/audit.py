"""How well a law extrapolates: whole budgets or whole sizes are left out, and errors are scored against distance."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from mdlm_jax.laws.prediction import hull_distance
from mdlm_jax.laws.surface import Fit, predict, solve, unidentified

LEAST_KEPT = 3  # budgets or sizes that a law is fitted to
EDGES = (0.0, 0.1, 0.25, 0.5, 1.0, np.inf)  # of the bins of distance, in decades; the first bin is 0 alone
ROUNDED = 6  # decimals of a distance: grids of half a decade lie on the edges


class Audit(NamedTuple):
    """Runs that a law was not fitted to, one entry for each time that a run was left out."""

    held_out: list[str]  # "budgets" or "sizes"
    largest: Float[np.ndarray, "entries"]  # FLOPs or parameters: the largest value that the law was fitted to
    inputs: Float[np.ndarray, "entries inputs"]  # of the run, such as parameters and tokens
    distance: Float[np.ndarray, "entries"]  # decades outside the convex hull of the fitted runs; 0 inside
    error: Float[np.ndarray, "entries"]  # ln loss - ln predicted loss


class Bin(NamedTuple):
    """The errors at distances from `low`, without it, to `high` decades; the first bin is inside the fitted runs."""

    held_out: str
    low: float
    high: float
    count: int
    bias: float  # mean of ln loss - ln predicted loss
    error: float  # root mean square of the same


def audit(fitted: Fit, budgets: Float[np.ndarray, "runs"]) -> Audit:
    """Refits a law without its largest budgets, one more each time, then without its largest sizes.

    At least three budgets or sizes are kept. A refit whose runs do not determine the law is left out.

    Args:
        fitted: The fit to all runs, where the refits start.
        budgets: The budget of each run, FLOPs.

    Returns:
        Every run that was left out, as often as it was.
    """
    cuts = [
        (name, largest, values > largest)
        for name, values in (("budgets", budgets), ("sizes", fitted.inputs.parameters))
        for largest in np.unique(values)[LEAST_KEPT - 1 : -1]
    ]
    if not cuts:
        return Audit([], *(np.zeros(shape) for shape in (0, (0, len(fitted.inputs)), 0, 0)))
    starts, free = (np.tile(one, (len(cuts), 1)) for one in (fitted.coordinates, fitted.free))
    weights = np.stack([~held for *_, held in cuts]).astype(float)
    solved = solve(fitted.law, fitted.estimator, fitted.inputs, fitted.loss, weights, starts, free)
    entries = []
    for (name, largest, held), coordinates in zip(cuts, solved.coordinates, strict=True):
        entries += _entries(fitted, name, float(largest), held, coordinates)
    names, *columns = zip(*entries, strict=True) if entries else ((), (), (), (), ())
    shaped = [np.array(column, float) for column in columns]
    shaped[1] = shaped[1].reshape(-1, len(fitted.inputs))
    return Audit(list(names), *shaped)


def _entries(fitted: Fit, name: str, largest: float, held: Bool[np.ndarray, "runs"], coordinates: np.ndarray) -> list:
    kept, left = (jax.tree.map(lambda column, which=which: column[which], fitted.inputs) for which in (~held, held))
    if unidentified(fitted.law, coordinates, fitted.free, kept):
        return []
    errors = (np.log(fitted.loss) - predict(fitted.law, coordinates, fitted.inputs))[held]
    distances = np.round(hull_distance(kept, left), ROUNDED)
    return [(name, largest, *one) for one in zip(np.stack(left, axis=1), distances, errors, strict=True)]


def by_distance(found: Audit) -> list[Bin]:
    """The errors of an audit by what was left out and by distance; empty bins are left out."""
    bins, names = [], np.array(found.held_out)
    for name in dict.fromkeys(found.held_out):
        for low, high in zip((-np.inf, *EDGES[:-1]), EDGES, strict=True):
            errors = found.error[(names == name) & (found.distance > low) & (found.distance <= high)]
            if len(errors):
                bias, error = float(errors.mean()), float(np.sqrt(np.mean(errors**2)))
                bins.append(Bin(name, max(low, 0.0), float(high), len(errors), bias, error))
    return bins
