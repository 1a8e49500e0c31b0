"""The number of epochs of the same data from which one objective has a lower loss than another, each at its best size.

The interval is from a parametric bootstrap of the mean losses of the cells (one size and number of epochs). The noise
between seeds is pooled over the cells of an objective and its variance is drawn anew in each replicate, as in
`optima.py`. All seeds are evaluated with the same noise draws, so the Monte Carlo error is not divided by their number.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.laws.optima import REPLICATES
from mdlm_jax.laws.refusal import Refusal


class EpochRuns(NamedTuple):
    """The runs of one objective on one set of unique tokens; every seed is a run."""

    parameters: Float[np.ndarray, "runs"]
    epochs: Float[np.ndarray, "runs"]
    loss: Float[np.ndarray, "runs"]  # nats per token
    error: Float[np.ndarray, "runs"]  # Monte Carlo error of the loss


class Cells(NamedTuple):
    """Means over seeds by size and epochs, in order; NaN for cells without a run."""

    parameters: Float[np.ndarray, "sizes"]
    epochs: Float[np.ndarray, "epochs"]
    loss: Float[np.ndarray, "sizes epochs"]
    seeds: Float[np.ndarray, "sizes epochs"]
    error: Float[np.ndarray, "sizes epochs"]  # Monte Carlo error, common to the seeds
    squares: float  # of the runs around the mean of their cell, summed
    degrees: int  # of freedom of that sum


class Crossing(NamedTuple):
    """A crossover; infinite if `second` is not below at the last epochs compared, 0 if it is below at all of them."""

    epochs: float
    low: float  # 95% interval
    high: float
    first_epochs: float  # the range that was compared
    last_epochs: float
    degrees: int  # of freedom of the noise between seeds; 0: the interval knows the Monte Carlo errors only


def cells(runs: EpochRuns) -> Cells:
    """The runs by size and epochs."""
    sizes, row = np.unique(runs.parameters, return_inverse=True)
    epochs, column = np.unique(runs.epochs, return_inverse=True)
    cell, shape = row * len(epochs) + column, (len(sizes), len(epochs))
    total = lambda values: np.bincount(cell, values, sizes.size * epochs.size)  # noqa: E731
    seeds = total(np.ones(len(cell)))
    with np.errstate(invalid="ignore"):
        mean, error = total(runs.loss) / seeds, np.sqrt(total(runs.error**2) / seeds)
    squares = float(np.sum((runs.loss - mean[cell]) ** 2))
    degrees = int(np.sum(np.maximum(seeds - 1, 0)))
    return Cells(sizes, epochs, *(each.reshape(shape) for each in (mean, seeds, error)), squares, degrees)


def best_size(loss: Float[np.ndarray, "*n sizes epochs"]) -> Float[np.ndarray, "*n epochs"]:
    """The least loss over sizes after each number of epochs."""
    return np.nanmin(loss, axis=-2)


def _resampled(runs: Cells, replicates: int, generator: np.random.Generator) -> Float[np.ndarray, "replicates e"]:
    variance = np.zeros(replicates)
    if runs.degrees:
        variance = runs.squares / generator.chisquare(runs.degrees, replicates)
    scale = np.sqrt(variance[:, None, None] / runs.seeds + runs.error**2)
    return best_size(runs.loss + scale * generator.standard_normal((replicates, *runs.loss.shape)))


def _last_zero(epochs: Float[np.ndarray, "e"], ahead: Float[np.ndarray, "*n e"]) -> Float[np.ndarray, "*n"]:
    """The epochs from which `ahead` stays positive, linear in log epochs; 0 if always, infinite if never."""
    behind = ahead <= 0
    last = ahead.shape[-1] - 1 - np.argmax(behind[..., ::-1], axis=-1)  # the last epochs at which it is not
    inner = np.minimum(last, ahead.shape[-1] - 2)
    before = np.take_along_axis(ahead, inner[..., None], -1)[..., 0]
    after = np.take_along_axis(ahead, inner[..., None] + 1, -1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = before / (before - after)
    log_epochs = np.log(epochs)
    crossed = np.exp(log_epochs[inner] + share * (log_epochs[inner + 1] - log_epochs[inner]))
    return np.where(~behind.any(axis=-1), 0.0, np.where(behind[..., -1], np.inf, crossed))


def epochs_crossing(first: EpochRuns, second: EpochRuns, seed: int, replicates: int = REPLICATES) -> Crossing | Refusal:
    """The number of epochs from which the best size of `second` has a lower loss than that of `first`.

    It is interpolated in log epochs between numbers of epochs that both objectives have. It is refused with fewer than
    two of these, or if neither a Monte Carlo error nor a second seed shows the noise.
    """
    tables = [cells(runs) for runs in (first, second)]
    common = np.intersect1d(tables[0].epochs, tables[1].epochs)
    if len(common) < 2:
        return Refusal(f"{len(common)} numbers of epochs that both objectives have; it takes two")
    degrees = min(table.degrees for table in tables)
    if not any(table.degrees or np.nanmax(table.error) > 0 for table in tables):
        return Refusal("one seed each and exact losses leave nothing to estimate the noise from")
    columns = [np.isin(table.epochs, common) for table in tables]
    generator = np.random.default_rng(seed)
    found, sampled = (
        [best_size(table.loss)[column] for table, column in zip(tables, columns, strict=True)],
        [_resampled(table, replicates, generator)[:, column] for table, column in zip(tables, columns, strict=True)],
    )
    epochs = float(_last_zero(common, found[0] - found[1]))
    resampled = _last_zero(common, sampled[0] - sampled[1])
    low, high = np.percentile(resampled, (2.5, 97.5), method="nearest")
    return Crossing(epochs, float(low), float(high), float(common[0]), float(common[-1]), degrees)
