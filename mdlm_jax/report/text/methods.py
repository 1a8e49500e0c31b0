"""How the numbers of a report were made."""

from collections.abc import Sequence

from mdlm_jax.costs.counters import COUNTER_LABELS
from mdlm_jax.laws import Crossing, Optima, SeedMean
from mdlm_jax.laws.optima import REPLICATES
from mdlm_jax.report.parametric_fits import ESTIMATOR, RESAMPLES, ParametricFit
from mdlm_jax.report.shared_cost import shared_cost
from mdlm_jax.report.study import Study
from mdlm_jax.report.text.noise import noise
from mdlm_jax.runs.result import Result
from mdlm_jax.style import number

BOUNDS = {"exact": "exact likelihood", "upper": "upper bound", "none": "no likelihood bound"}


def _evaluation(name: str, runs: Sequence[Result]) -> str:
    rates = sorted({run.learning_rate for run in runs})
    rate = number(rates[0]) if len(rates) == 1 else f"{number(rates[0])} to {number(rates[-1])}"
    draws = " or ".join(map(str, sorted({run.draws for run in runs})))
    estimators = ", ".join(sorted({run.estimator for run in runs}))
    return f"{name}: {estimators}, {draws} noise draws per sequence, {BOUNDS[runs[0].bound]}, learning rate {rate}"


def _runs(study: Study) -> str:
    analysis = study.analysis
    done = [run for run in study.results if run.status == "done"]
    by_objective = {name: [run for run in done if run.objective == name] for name in {r.objective: 0 for r in done}}
    devices = ", ".join(sorted({run.device for run in done}))
    versions = ", ".join(sorted({f"{name} {version}" for run in done for name, version in run.versions.items()}))
    seeds = len({run.seed for run in done})
    budgets = f", budgets in FLOPs ({COUNTER_LABELS[analysis.counter]})" if analysis.runs else ""
    steps = (
        f", {len(analysis.by_steps)} of them with a number of steps instead of a budget" if analysis.by_steps else ""
    )
    evaluated = ". ".join(_evaluation(name, runs) for name, runs in by_objective.items())
    return (
        f"{len(done)} runs on {devices} ({versions}), {sum(run.wall_seconds for run in done):.0f} s of training in "
        f"total, {seeds} {'seed' if seeds == 1 else 'different seeds'}{budgets}{steps}. Losses are validation nats per "
        f"token that has a loss. {evaluated}."
    )


def _isoflops() -> str:
    return (
        "At each budget, a parabola of the loss in log N through the runs of all seeds gives N* and L*. D* is the "
        "number of tokens of the runs of that budget, interpolated at N*. Power laws are least squares of logarithms "
        "on log C. Budgets whose minimum is outside the grid of sizes are left out. The multiplier is the ratio of the "
        "budgets at which two laws L*(C) reach the same loss, averaged (geometric mean) over the losses that both "
        f"reach. Intervals are 95%, from {REPLICATES} replicates of a parametric bootstrap: normal noise around each "
        "parabola, its variance pooled over the budgets and seeds of an objective and drawn anew in each replicate "
        "(which gives Student's intervals), and never below the Monte Carlo error of the run. All runs share the "
        "validation text, so its choice is not part of the intervals."
    )


def _branches(study: Study) -> list[str]:
    if (cost := shared_cost(study.results, study.analysis.counter or "exact")) is None:
        return []
    return [
        f"{cost.sentence} FLOPs and tokens of a branch, here and in the fits, are those of its whole training from the "
        "first step of its trunk. Branches of one trunk share its noise, which intervals take for independent, as they "
        "do for runs of one seed."
    ]


def methods(study: Study) -> list[str]:
    """One paragraph for each kind of analysis that was done."""
    if not any(run.status == "done" for run in study.results):
        return []
    paragraphs = [_runs(study), " ".join(noise(study.results)), *_branches(study)]
    if any(isinstance(best, Optima) for best in study.analysis.optima.values()):
        paragraphs.append(_isoflops())
    if any(isinstance(surface, ParametricFit) for surface in study.parametric_fits.values()):
        paragraphs.append(
            f"L(N, D) = E + A / N^alpha + B / D^beta is fitted to all runs of an objective at once, from a grid of "
            f"starts (estimator: {ESTIMATOR}; N without embeddings). Intervals of its parameters are profile "
            f"likelihoods with Student's threshold. The interval of the exponent of N* is from {RESAMPLES} bootstrap "
            "resamples of the runs."
        )
    if any(isinstance(one.crossing, Crossing) for found in study.repeated for one in found.overtakings):
        paragraphs.append(
            "A crossover is where the curves of the best sizes (means over seeds) cross for good, interpolated "
            f"linearly in log epochs. Its interval is from {REPLICATES} replicates of a parametric bootstrap with the "
            "noise between seeds, pooled over the sizes and epochs of an objective, and the Monte Carlo errors. "
            "Each replicate chooses the best size anew."
        )
    if any(isinstance(mean, SeedMean) for cell in study.cells for mean in cell.means.values()):
        paragraphs.append(
            "Means at one size and budget have Student's intervals over seeds. All seeds share the noise draws of "
            "validation, so the Monte Carlo variance is added to the variance of the mean. Differences are paired by "
            "seed."
        )
    return paragraphs
