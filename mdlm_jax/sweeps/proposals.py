"""Candidates for the next runs of two kept fits: sizes of the ladder by compute, between the runs that were fitted."""

from typing import NamedTuple

import numpy as np

from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.laws import Candidates, Fit, Runs, hull_distance
from mdlm_jax.models.ladder import SMALL, SMDM

COMPUTES = 9  # amounts of compute over the range of the fitted runs
NEAR = 0.3  # decades outside the fitted runs within which a candidate is trusted


class Grid(NamedTuple):
    """Candidates with the names of their sizes."""

    candidates: Candidates  # costs are 6 N D
    sizes: list[str]


def candidate_grid(reference: Fit, other: Fit) -> Grid:
    """Every size of the ladder at each amount of compute, within 0.3 decades of the runs of its objective."""
    names = list(SMALL | SMDM)
    sizes = np.array([num_parameters(shape).non_embedding for shape in (SMALL | SMDM).values()], float)
    rows, kept = [], []
    for which, fitted in enumerate((reference, other)):
        spent = 6 * fitted.inputs.parameters * fitted.inputs.tokens
        computes = np.geomspace(spent.min(), spent.max(), COMPUTES)
        index, compute = np.tile(np.arange(len(sizes)), COMPUTES), np.repeat(computes, len(sizes))
        runs = Runs(sizes[index], compute / 6 / sizes[index])
        near = np.flatnonzero(hull_distance(fitted.inputs, runs) <= NEAR)
        rows += [(which, runs.parameters[at], runs.tokens[at], compute[at]) for at in near]
        kept += [names[index[at]] for at in near]
    objective, *columns = np.array(rows).T
    return Grid(Candidates(objective.astype(int), *columns), kept)
