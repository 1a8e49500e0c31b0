"""Compute multipliers under tighter likelihoods than the training bound, where results have them."""

from collections.abc import Sequence
from typing import NamedTuple

from mdlm_jax.laws import Multiplier, Refusal
from mdlm_jax.report.analysis import Analysis, analyse
from mdlm_jax.runs.result import Result

TRAINING = "training bound"
LABELS = {
    "orders": "{:g} random orders",
    "left_to_right": "decoded left to right",
    "confidence": "decoded by confidence",
}


class Under(NamedTuple):
    """The compute of `other` over that of `reference` at equal loss, the loss of `other` under one likelihood."""

    reference: str  # its likelihood is exact
    other: str
    likelihood: str  # as a reader sees it
    multiplier: Multiplier | Refusal


def under_likelihoods(results: Sequence[Result], analysis: Analysis) -> list[Under]:
    """Each comparison with an exact reference under every likelihood that all runs of the other objective have.

    Args:
        results: Those that `analysis` is of.
        analysis: What they support under their training bounds.
    """
    found = []
    for comparison in analysis.comparisons:
        reference, other = comparison.reference, comparison.other
        if analysis.runs[reference][0].bound != "exact":
            continue
        names = set.intersection(*(settings(run) for run in analysis.runs[other]))
        if names:
            found.append(Under(reference, other, TRAINING, comparison.multiplier))
        used = {run.run_id for name in (reference, other) for run in analysis.runs[name]}
        for name, draws in sorted(names, key=lambda pair: list(LABELS).index(pair[0])):
            replaced = [
                _with_likelihood(run, name) if run.objective == other else run for run in results if run.run_id in used
            ]
            (compared,) = analyse(replaced).comparisons
            found.append(Under(reference, other, LABELS[name].format(draws), compared.multiplier))
    return found


def settings(run: Result) -> set[tuple[str, float]]:
    """The likelihoods of a run beyond its loss: (name, random orders)."""
    return {(name, kept["draws"]) for name, kept in run.likelihoods.items() if name in LABELS}


def _with_likelihood(run: Result, name: str) -> Result:
    kept = run.likelihoods[name]
    return run._replace(
        loss=kept["nats_per_token"],
        loss_standard_error=kept["standard_error"],
        loss_monte_carlo_error=kept["monte_carlo_error"],
    )
