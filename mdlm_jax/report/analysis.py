"""From the results of a sweep to what may be compared with what."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdlm_jax.laws import (
    FloorMultiplier,
    IsoFlop,
    Minimum,
    Multiplier,
    Optima,
    Refusal,
    compute_multiplier,
    isoflop_minimum,
    multiplier_with_floor,
    optima,
)
from mdlm_jax.report.groups import base_objective
from mdlm_jax.runs.result import Result

CONTROL = ("any_order", "masked")  # one expectation, so their multiplier must cover 1
REFERENCE = "ar"


class Comparison(NamedTuple):
    """The compute of `other` over that of `reference`, at equal loss."""

    reference: str
    other: str
    control: bool
    multiplier: Multiplier | Refusal
    with_floor: FloorMultiplier | Refusal  # the same if the loss has an irreducible part


class Analysis(NamedTuple):
    """All that a report shows. Dicts are by objective, in one order; runs are those that may be compared."""

    counter: str  # of the budgets, and of every C
    runs: dict[str, list[Result]]
    minima: dict[str, list[tuple[IsoFlop, Minimum | Refusal]]]
    optima: dict[str, Optima | Refusal]
    comparisons: list[Comparison]
    failed: list[Result]
    left_out: list[str]  # one line for each run that is not used, and why
    by_steps: list[Result]  # done, but given steps and no budget: on no isoFLOP curve


def with_total_budget(run: Result) -> Result:
    """The run with the FLOPs of its whole training as budget, including what it inherits.

    `tokens` and `flops` of a result include what a run inherits, and so does the budget of a branch, which continues
    the steps of its parent. The budget of a run that starts from another run's weights is its own.
    """
    inherited = run.inherited_flops.get(run.budget_counter, 0.0) if run.kinship == "weights" else 0.0
    return run._replace(budget=run.budget + inherited) if run.budget > 0 else run


def reference_first(run: Result) -> tuple[bool, str]:
    """A key that sorts runs by objective, the reference and its groups first."""
    return base_objective(run.objective) != REFERENCE, run.objective


def likelihoods(analysis: Analysis) -> list[str]:
    """The objectives whose losses share an axis: exact, or upper bounds of the same thing."""
    return [objective for objective, runs in analysis.runs.items() if runs[0].bound != "none"]


def _comparable(results: Sequence[Result], left_out: list[str]) -> tuple[str, dict[str, list[Result]]]:
    """The counter that most budgets are spent in and its runs by objective; the others are named in `left_out`."""
    if not results:
        return "", {}
    counter = Counter(run.budget_counter for run in results).most_common(1)[0][0]
    runs: dict[str, list[Result]] = defaultdict(list)
    for run in sorted(results, key=lambda run: (*reference_first(run), run.budget, run.seed)):
        bound = runs[run.objective][0].bound if run.objective in runs else run.bound
        if run.budget_counter != counter:
            left_out.append(f"{run.run_id}: its budget is counted in {run.budget_counter}, the others in {counter}")
        elif run.bound != bound:
            left_out.append(
                f"{run.run_id}: its loss is '{run.bound}', that of the other {run.objective} runs '{bound}'"
            )
        else:
            runs[run.objective].append(run)
    return counter, dict(runs)


def _isoflops(runs: Sequence[Result], counter: str) -> list[IsoFlop]:
    curves = []
    for budget in sorted({run.budget for run in runs}):
        mine = sorted((run for run in runs if run.budget == budget), key=lambda run: run.parameters_non_embedding)
        columns = ("parameters_non_embedding", "tokens", "loss", "loss_monte_carlo_error")
        arrays = (np.array([getattr(run, key) for run in mine], float) for key in columns)
        curves.append(IsoFlop(budget, counter, *arrays))
    return curves


def _is_control(reference: str, other: str) -> bool:
    """Whether two objectives are a control: `any_order` and `masked`, or groups of them with the same settings."""
    bases = (base_objective(reference), base_objective(other))
    return bases == CONTROL and reference.removeprefix(bases[0]) == other.removeprefix(bases[1])


def _compare(reference: str, other: str, best: dict[str, Optima | Refusal]) -> Comparison:
    first, second = best[reference], best[other]
    if isinstance(second, Refusal):
        multiplier = floored = Refusal(f"{other} has no law L*(C)")
    elif isinstance(first, Refusal):
        multiplier = floored = Refusal(f"{reference} has no law L*(C)")
    else:
        multiplier, floored = compute_multiplier(first, second), multiplier_with_floor(first, second)
    return Comparison(reference, other, _is_control(reference, other), multiplier, floored)


def analyse(results: Sequence[Result], problems: Sequence[str] = ()) -> Analysis:
    """Fits every objective, and compares those that bound the same likelihood: each with `ar`, and the control.

    Without `ar` the first objective is the reference. `problems` are lines about runs whose result could not be read.
    """
    left_out = list(problems)
    done = [with_total_budget(run) for run in results if run.status == "done"]
    counter, runs = _comparable([run for run in done if run.budget > 0], left_out)
    curves = {objective: _isoflops(mine, counter) for objective, mine in runs.items()}
    minima = {
        objective: [(curve, isoflop_minimum(curve.parameters, curve.loss)) for curve in mine]
        for objective, mine in curves.items()
    }
    best = {objective: optima(mine, seed) for seed, (objective, mine) in enumerate(curves.items())}
    failed, by_steps = [r for r in results if r.status == "failed"], [run for run in done if run.budget <= 0]
    analysis = Analysis(counter, runs, minima, best, [], failed, left_out, by_steps)
    names = likelihoods(analysis)
    pairs = [(names[0], other) for other in names[1:]]
    pairs += [(a, b) for a in names[1:] for b in names[1:] if _is_control(a, b)]
    return analysis._replace(comparisons=[_compare(reference, other, best) for reference, other in pairs])
