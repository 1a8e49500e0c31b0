"""Weaknesses in the design of a sweep that limit how far its laws can be trusted, in sentences."""

from collections import defaultdict
from typing import Any

import numpy as np

from mdlm_jax.laws import MIN_SIZES, Optima, Refusal, seed_deviation
from mdlm_jax.report.analysis import Analysis
from mdlm_jax.style import number

GOOD_SIZES, GOOD_BUDGETS = 5, 3
NAMED = 3  # runs that one sentence names


def _minima(analysis: Analysis) -> list[str]:
    sentences = []
    for name, curves in analysis.minima.items():
        few = defaultdict(list)
        if len(curves) == 1 and isinstance(curves[0][1], Refusal):
            continue  # one budget of one or two sizes is not meant for a law
        for curve, minimum in curves:
            where = f"{name} at {number(curve.budget)} FLOPs: "
            sizes = len(np.unique(curve.parameters))
            if isinstance(minimum, Refusal):
                runs = [run.run_id for run in analysis.runs[name] if run.budget == curve.budget]
                sentences.append(
                    f"{where}there is no minimum, because {minimum.reason}. Its runs are {', '.join(runs[:NAMED])}."
                )
            elif not minimum.interior:
                grid = f"{number(curve.parameters.min())} to {number(curve.parameters.max())} parameters"
                sentences.append(
                    f"{where}the minimum is at the edge of the grid ({grid}): the best run has "
                    f"{number(minimum.parameters)}. The laws leave this budget out."
                )
            if MIN_SIZES <= sizes < GOOD_SIZES:
                few[sizes].append(number(curve.budget))
        for sizes, budgets in few.items():
            free = "none" if sizes == MIN_SIZES else "one"
            sentences.append(
                f"{name}: {sizes} sizes at {', '.join(budgets)} FLOPs. A parabola needs three, which leaves {free} to "
                f"test its shape. Use {GOOD_SIZES} or more."
            )
    return sentences


def _budgets(analysis: Analysis) -> list[str]:
    sentences = []
    for name, best in analysis.optima.items():
        if isinstance(best, Optima) and len(best.budgets) < GOOD_BUDGETS:
            sentences.append(f"{name}: two minima determine a power law and leave nothing to test it.")
    return sentences


def _seeds(analysis: Analysis) -> list[str]:
    cells = defaultdict(list)
    for run in (run for runs in analysis.runs.values() for run in runs):
        cells[run.objective, run.size, run.budget].append(run.loss)
    spread = seed_deviation(cells.values())
    if np.isnan(spread):
        return [
            "Every run has one seed, so the noise is estimated only from how far the runs lie from their parabolas."
        ]
    sentences = []
    for comparison in analysis.comparisons:
        value = comparison.multiplier
        if comparison.control or isinstance(value, Refusal):
            continue
        best: Any = analysis.optima[comparison.reference]  # no Refusal, as the multiplier is none
        slope = abs(best.loss_law.exponent)
        effect = abs(np.log(value.mean)) * slope * float(np.mean(value.loss))
        if spread > effect:
            sentences.append(
                f"{comparison.other} against {comparison.reference}: the seeds of one run have a standard deviation of "
                f"{spread:.4f} nats. The multiplier corresponds to less, {effect:.4f} nats at equal compute."
            )
    return sentences


def warnings(analysis: Analysis) -> list[str]:
    """One sentence for each weakness."""
    if not analysis.runs:
        return []
    sentences = _minima(analysis) + _budgets(analysis) + _seeds(analysis)
    epochs = max(run.epochs for runs in analysis.runs.values() for run in runs)
    if epochs > 1.5:
        sentences.append(
            f"Runs read their data up to {epochs:.1f} times. Repetition may explain part of the differences."
        )
    return sentences
