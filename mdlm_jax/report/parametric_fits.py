"""The parametric fit L(N, D) of each objective, how surely its runs determine it, and how well it predicts budgets."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.laws import (
    CHINCHILLA,
    Audit,
    Fit,
    FormFit,
    HeldOut,
    KeptFit,
    Profile,
    Refusal,
    Runs,
    allocation,
    audit,
    bootstrap,
    compare_forms,
    fit_law,
    interval,
    keep,
    leave_one_budget_out,
    loss_at,
    profile,
    row_resamples,
)
from mdlm_jax.report.analysis import Analysis
from mdlm_jax.runs.result import Result

ESTIMATOR = "squares"  # a likelihood, which profiles need
PROFILED = ("E", "alpha", "beta")
RESAMPLES = 500
MIN_BUDGETS = 3


class ParametricFit(NamedTuple):
    fitted: Fit
    budgets: Float[np.ndarray, "runs"]
    residuals: Float[np.ndarray, "runs"]  # ln loss - ln predicted loss
    profiles: list[Profile]
    held_out: HeldOut | Refusal
    audit: Audit
    exponent: tuple[float, float, float]  # of N* in C = 6 N D, N non-embedding, and its 95% interval over rows


class Columns(NamedTuple):
    """What a law is fitted to."""

    inputs: Runs
    loss: Float[np.ndarray, "runs"]
    budgets: Float[np.ndarray, "runs"]


def _columns(runs: Sequence[Result]) -> Columns | Refusal:
    """Of one objective, refused with fewer than three budgets: they leave N and D nearly tied."""
    budgets = _budgets(runs)
    if len(np.unique(budgets)) < MIN_BUDGETS:
        return Refusal(f"to tell N from D takes {MIN_BUDGETS} budgets, and there are {len(np.unique(budgets))}")
    inputs = Runs(
        np.array([run.parameters_non_embedding for run in runs], float), np.array([run.tokens for run in runs], float)
    )
    loss = np.array([run.loss for run in runs])
    if loss.min() <= 0:
        return Refusal("a parametric law needs positive losses")
    return Columns(inputs, loss, budgets)


def surface_of(runs: Sequence[Result]) -> Fit | Refusal:
    """Chinchilla's law of one objective, refused with fewer than three budgets."""
    found = _columns(runs)
    return found if isinstance(found, Refusal) else fit_law(CHINCHILLA, found.inputs, found.loss, ESTIMATOR)


def forms_of(analysis: Analysis) -> dict[str, dict[str, FormFit | Refusal] | Refusal]:
    """Every form of L(N, D) fitted to the runs of each objective, with the errors of budgets that were left out."""
    columns = {name: _columns(runs) for name, runs in analysis.runs.items()}
    return {name: found if isinstance(found, Refusal) else compare_forms(*found) for name, found in columns.items()}


def kept_fits(analysis: Analysis, resamples: int) -> dict[str, KeptFit | Refusal]:
    """The surface of every objective with its bootstrap draws, to be written to a file."""
    kept = {}
    for seed, (name, runs) in enumerate(analysis.runs.items()):
        fitted = surface_of(runs)
        kept[name] = fitted if isinstance(fitted, Refusal) else keep(fitted, resamples, seed)
    return kept


def audits_of(analysis: Analysis, kept: Mapping[str, KeptFit]) -> dict[str, Audit]:
    """How well the surface of each objective extrapolates."""
    return {name: audit(fit.fitted, _budgets(analysis.runs[name])) for name, fit in kept.items()}


def _budgets(runs: Sequence[Result]) -> Float[np.ndarray, "runs"]:
    return np.array([run.budget for run in runs])


def parametric_fit(runs: Sequence[Result], seed: int) -> ParametricFit | Refusal:
    """Of the runs of one objective, refused as `surface_of` does."""
    fitted = surface_of(runs)
    if isinstance(fitted, Refusal):
        return fitted
    budgets, loss, inputs = _budgets(runs), fitted.loss, fitted.inputs
    with np.errstate(over="ignore", invalid="ignore"):  # where a resample leaves A or B undetermined
        replicates = bootstrap(fitted, row_resamples(len(loss), RESAMPLES, seed))
        low, high = interval(allocation(replicates, "six_nonembedding").parameters_exponent)
    return ParametricFit(
        fitted,
        budgets,
        np.log(loss / loss_at(fitted, inputs)),
        [profile(fitted, parameter) for parameter in PROFILED],
        leave_one_budget_out(fitted, budgets),
        audit(fitted, budgets),
        (float(allocation(fitted.values, "six_nonembedding").parameters_exponent), float(low), float(high)),
    )


def parametric_fits(analysis: Analysis) -> dict[str, ParametricFit | Refusal]:
    """Of every objective that was given budgets."""
    return {name: parametric_fit(runs, seed) for seed, (name, runs) in enumerate(analysis.runs.items())}
