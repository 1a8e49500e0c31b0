"""Objectives at one size and budget: mean losses over seeds, and differences paired by seed."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mdlm_jax.costs.counters import COUNTER_LABELS
from mdlm_jax.laws import Refusal, SeedMean, seed_mean
from mdlm_jax.report.analysis import reference_first
from mdlm_jax.runs.result import Result
from mdlm_jax.style import number

MOST_CELLS = 6  # shown in a report


class Difference(NamedTuple):
    """The loss of `other` minus that of `reference`, paired by seed."""

    reference: str
    other: str
    value: SeedMean | Refusal


class Cell(NamedTuple):
    """The runs of one size and budget."""

    size: str
    spent: str  # the budget or tokens of each run, as text
    runs: dict[str, list[Result]]  # by objective
    means: dict[str, SeedMean | Refusal]
    differences: list[Difference]  # between objectives that bound the same likelihood


def _monte_carlo_error(runs: Sequence[Result]) -> float:
    return float(np.sqrt(np.mean([run.loss_monte_carlo_error**2 for run in runs])))


def _difference(reference: Sequence[Result], other: Sequence[Result]) -> Difference:
    losses: list[dict[int, Any]] = [{run.seed: run.loss for run in runs} for runs in (reference, other)]
    common = sorted(set(losses[0]) & set(losses[1]))
    pairs = np.array([losses[1][seed] - losses[0][seed] for seed in common])
    error = float(np.hypot(_monte_carlo_error(reference), _monte_carlo_error(other)))
    return Difference(reference[0].objective, other[0].objective, seed_mean(pairs, error))


def _cell(size: str, spent: str, runs: dict[str, list[Result]]) -> Cell:
    means = {
        name: seed_mean(np.array([run.loss for run in mine]), _monte_carlo_error(mine)) for name, mine in runs.items()
    }
    bounding = [mine for mine in runs.values() if mine[0].bound != "none"]
    return Cell(size, spent, runs, means, [_difference(bounding[0], other) for other in bounding[1:]])


def equal_compute(runs: Sequence[Result]) -> list[Cell]:
    """The sizes and budgets (or steps) at which two or more objectives have several seeds.

    At most MOST_CELLS of them: those with the most runs, and among these the most expensive.
    """
    groups: dict[tuple, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs, key=lambda run: (*reference_first(run), run.seed)):
        given = (run.budget, f"{number(run.budget)} FLOPs ({COUNTER_LABELS[run.budget_counter]})")
        steps = (run.tokens, f"{number(run.tokens)} tokens")
        groups[run.size, *(given if run.budget > 0 else steps), run.unique_tokens][run.objective].append(run)
    cells = []
    for (size, amount, spent, _), by_objective in groups.items():
        several = [name for name, mine in by_objective.items() if len({run.seed for run in mine}) > 1]
        if len(several) > 1:
            cells.append((sum(map(len, by_objective.values())), amount, _cell(size, spent, dict(by_objective))))
    cells.sort(key=lambda cell: cell[:2], reverse=True)
    return [cell for _, _, cell in cells[:MOST_CELLS]]
