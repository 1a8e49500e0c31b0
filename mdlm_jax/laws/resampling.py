"""Bootstrap resamples of a set of runs, as weights."""

import numpy as np
from jaxtyping import Float, Int

from mdlm_jax.errors import UserError


def row_resamples(runs: int, replicates: int, seed: int) -> Float[np.ndarray, "replicates runs"]:
    """How often each run is drawn in `runs` draws with replacement: for noise between runs and misfit of the law."""
    return np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=replicates).astype(float)


def seed_resamples(cells: Int[np.ndarray, "runs"], replicates: int, seed: int) -> Float[np.ndarray, "replicates runs"]:
    """Weights that resample the seeds within each cell (runs of one configuration) and keep the design.

    It makes n - 1 draws of weight n / (n - 1), so that the mean of a cell of few seeds has the right variance. With two
    seeds the intervals of a fit still cover less than their nominal share (docs/how-to/fitting.md).

    Args:
        cells: The cell of each run.
        replicates: Number of resamples.
        seed: Seed of the draws.

    Raises:
        UserError: A cell has one seed, which shows no noise.

    Reference: Rao and Wu 1988.
    """
    generator = np.random.default_rng(seed)
    weights = np.empty((replicates, len(cells)))
    for cell in np.unique(cells):
        mine = np.flatnonzero(cells == cell)
        n = len(mine)
        if n < 2:
            raise UserError(f"cell {cell} holds one run; a bootstrap of seeds takes at least two in every cell")
        weights[:, mine] = generator.multinomial(n - 1, np.full(n, 1 / n), size=replicates) * n / (n - 1)
    return weights


def interval(values: Float[np.ndarray, "replicates *n"]) -> Float[np.ndarray, "2 *n"]:
    """The 2.5% and 97.5% quantiles over the replicates."""
    return np.nanpercentile(values, (2.5, 97.5), axis=0)
