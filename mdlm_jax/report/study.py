"""All that a report shows: what is fitted to the results, and what the folders of the runs add."""

import pathlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from mdlm_jax.laws import Frontier, Refusal
from mdlm_jax.report.analysis import Analysis, analyse
from mdlm_jax.report.curves import curves_frontier, learning_curves
from mdlm_jax.report.equal_compute import Cell, equal_compute
from mdlm_jax.report.parametric_fits import ParametricFit, parametric_fits
from mdlm_jax.report.repeated import Repeated, repeated
from mdlm_jax.report.samples import Sampled, read_samples
from mdlm_jax.report.tight import Under, under_likelihoods
from mdlm_jax.runs.result import Result


class Study(NamedTuple):
    results: list[Result]  # all that could be read
    analysis: Analysis
    fitting: Future  # of the surfaces
    repeated: list[Repeated]
    cells: list[Cell]
    curves: dict[str, tuple]  # (FLOPs of the budgets' counter, training loss) by run id
    frontiers: dict[str, Frontier | Refusal]  # over the curves of each objective that has some
    samples: list[Sampled]
    tight: list[Under]  # multipliers under other likelihoods

    @property
    def parametric_fits(self) -> dict[str, ParametricFit | Refusal]:
        """Waits for them: most of the fitting is compiling, beside which all else is read and put together."""
        return self.fitting.result()


def make_study(results: Sequence[Result], problems: Sequence[str], folders: Mapping[str, pathlib.Path]) -> Study:
    """`problems` are lines about results that cannot be read, `folders` those of the runs, by run id, where kept."""
    analysis = analyse(results, problems)
    fitting = ThreadPoolExecutor(1).submit(parametric_fits, analysis)
    budgeted = [run for runs in analysis.runs.values() for run in runs]
    repeats, rest = repeated(analysis.by_steps)
    cells = equal_compute(budgeted + rest)
    in_cells = {run.run_id for cell in cells for runs in cell.runs.values() for run in runs}
    unused = [
        f"{run.run_id}: has steps instead of a budget, and no other epochs, seeds or objectives to compare"
        for run in rest
        if run.run_id not in in_cells
    ]
    samples, unread = read_samples(budgeted + analysis.by_steps, folders)
    curves = learning_curves(budgeted, folders, analysis.counter)
    frontiers = {
        name: curves_frontier(runs, curves, analysis.counter)
        for name, runs in analysis.runs.items()
        if any(run.run_id in curves for run in runs)
    }
    analysis = analysis._replace(left_out=[*analysis.left_out, *unused, *unread])
    tight = under_likelihoods(results, analysis)
    return Study(list(results), analysis, fitting, repeats, cells, curves, frontiers, samples, tight)
