"""Runs that were given steps on limited data: loss against epochs, and who is ahead after how many."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdlm_jax.laws import Cells, Crossing, EpochRuns, Refusal, cells, epochs_crossing
from mdlm_jax.report.analysis import reference_first
from mdlm_jax.runs.result import Result

LEAST_EPOCHS = 2  # numbers of epochs that make a curve


class Overtaking(NamedTuple):
    """From how many epochs on `other` is below `reference`, each at its best size."""

    reference: str
    other: str
    crossing: Crossing | Refusal


class Repeated(NamedTuple):
    """The runs on one set of unique tokens. Dicts are by objective, in one order."""

    unique_tokens: int
    runs: dict[str, list[Result]]
    cells: dict[str, Cells]
    overtakings: list[Overtaking]


def _epoch_runs(runs: Sequence[Result]) -> EpochRuns:
    # rounded, since whole steps leave runs of one number of epochs some tokens apart
    epochs = np.array([float(f"{run.epochs:.3g}") for run in runs])
    columns = ("parameters_non_embedding", "loss", "loss_monte_carlo_error")
    sizes, loss, error = (np.array([getattr(run, key) for run in runs], float) for key in columns)
    return EpochRuns(sizes, epochs, loss, error)


def repeated(runs: Sequence[Result]) -> tuple[list[Repeated], list[Result]]:
    """One analysis for each number of unique tokens, and the runs that belong to none."""
    groups: dict[int, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs, key=reference_first):
        groups[run.unique_tokens][run.objective].append(run)
    found, rest = [], []
    for unique_tokens, by_objective in sorted(groups.items()):
        curves = {}
        for name, mine in by_objective.items():
            if len(np.unique(_epoch_runs(mine).epochs)) >= LEAST_EPOCHS:
                curves[name] = mine
            else:
                rest += mine
        if not curves:
            continue
        bounding = [name for name, mine in curves.items() if mine[0].bound != "none"]
        overtakings = [
            Overtaking(
                bounding[0], other, epochs_crossing(_epoch_runs(curves[bounding[0]]), _epoch_runs(curves[other]), seed)
            )
            for seed, other in enumerate(bounding[1:])
        ]
        tables = {name: cells(_epoch_runs(mine)) for name, mine in curves.items()}
        found.append(Repeated(unique_tokens, curves, tables, overtakings))
    return found, rest
