"""Where the design of a sweep is weak: what a reader must know before believing its laws."""

from collections import defaultdict

import numpy as np

from mdlm_jax.laws import MIN_SIZES, Optima, Refusal, seed_deviation
from mdlm_jax.report.analysis import Analysis
from mdlm_jax.style import number

GOOD_SIZES, GOOD_BUDGETS = 5, 3
NAMED = 3  # runs that a sentence names


def _minima(analysis: Analysis) -> list[str]:
    sentences = []
    for name, curves in analysis.minima.items():
        few = defaultdict(list)
        if len(curves) == 1 and isinstance(curves[0][1], Refusal):
            continue  # one budget of one or two sizes was not meant for a law, and has none
        for curve, minimum in curves:
            where = f"{name} at {number(curve.budget)} FLOPs: "
            sizes = len(np.unique(curve.parameters))
            if isinstance(minimum, Refusal):
                runs = [run.run_id for run in analysis.runs[name] if run.budget == curve.budget]
                sentences.append(f"{where}no minimum, {minimum.reason}; its runs are {', '.join(runs[:NAMED])}.")
            elif not minimum.interior:
                grid = f"{number(curve.parameters.min())} to {number(curve.parameters.max())} parameters"
                sentences.append(
                    f"{where}the minimum is at the edge of the grid ({grid}), the best run has "
                    f"{number(minimum.parameters)}; the budget is left out of all laws."
                )
            if MIN_SIZES <= sizes < GOOD_SIZES:
                few[sizes].append(number(curve.budget))
        for sizes, budgets in few.items():
            free = "no run" if sizes == MIN_SIZES else "one"
            sentences.append(
                f"{name}: {sizes} sizes at {', '.join(budgets)} FLOPs. A parabola takes three, which leaves {free} to "
                f"test its shape; {GOOD_SIZES} are better."
            )
    return sentences


def _budgets(analysis: Analysis) -> list[str]:
    sentences = []
    for name, best in analysis.optima.items():
        if isinstance(best, Optima) and len(best.budgets) < GOOD_BUDGETS:
            sentences.append(f"{name}: two minima fix a power law and leave nothing to test it with.")
    return sentences


def _seeds(analysis: Analysis) -> list[str]:
    cells = defaultdict(list)
    for run in (run for runs in analysis.runs.values() for run in runs):
        cells[run.objective, run.size, run.budget].append(run.loss)
    spread = seed_deviation(cells.values())
    if np.isnan(spread):
        return ["One seed a run: the noise is judged by how far the runs lie from their parabolas only."]
    sentences = []
    for comparison in analysis.comparisons:
        value = comparison.multiplier
        if comparison.control or isinstance(value, Refusal):
            continue
        slope = abs(analysis.optima[comparison.reference].loss_law.exponent)
        effect = abs(np.log(value.mean)) * slope * float(np.mean(value.loss))
        if spread > effect:
            sentences.append(
                f"{comparison.other} against {comparison.reference}: seeds of one run differ by {spread:.4f} nats (one "
                f"standard deviation), more than the {effect:.4f} nats at equal compute that the multiplier stands for."
            )
    return sentences


def warnings(analysis: Analysis) -> list[str]:
    """One sentence a weakness."""
    if not analysis.runs:
        return []
    sentences = _minima(analysis) + _budgets(analysis) + _seeds(analysis)
    epochs = max(run.epochs for runs in analysis.runs.values() for run in runs)
    if epochs > 1.5:
        sentences.append(f"Data is repeated, up to {epochs:.1f} times: part of what is measured may be that.")
    return sentences
