"""How the numbers of a report were made, from what was done."""

from collections.abc import Sequence

from mdlm_jax.laws import Crossing, Optima, SeedMean
from mdlm_jax.laws.optima import REPLICATES
from mdlm_jax.report.parametric_fits import ESTIMATOR, RESAMPLES, ParametricFit
from mdlm_jax.report.study import Study
from mdlm_jax.runs.result import Result
from mdlm_jax.style import number


def _evaluation(name: str, runs: Sequence[Result]) -> str:
    rates = sorted({run.learning_rate for run in runs})
    rate = number(rates[0]) if len(rates) == 1 else f"{number(rates[0])} to {number(rates[-1])}"
    draws = " or ".join(map(str, sorted({run.draws for run in runs})))
    estimators = ", ".join(sorted({run.estimator for run in runs}))
    return f"{name}: {estimators}, {draws} noise draws a sequence, bound '{runs[0].bound}', learning rate {rate}"


def _runs(study: Study) -> str:
    analysis = study.analysis
    done = [run for run in study.results if run.status == "done"]
    by_objective = {name: [run for run in done if run.objective == name] for name in {r.objective: 0 for r in done}}
    devices = ", ".join(sorted({run.device for run in done}))
    versions = ", ".join(sorted({f"{name} {version}" for run in done for name, version in run.versions.items()}))
    seeds = len({run.seed for run in done})
    budgets = f", budgets in FLOPs of the counter '{analysis.counter}'" if analysis.runs else ""
    steps = f", {len(analysis.by_steps)} of them given steps and no budget" if analysis.by_steps else ""
    evaluated = ". ".join(_evaluation(name, runs) for name, runs in by_objective.items())
    return (
        f"{len(done)} runs on {devices} ({versions}), {sum(run.wall_seconds for run in done):.0f} s of training in "
        f"all, {seeds} {'seed' if seeds == 1 else 'different seeds'}{budgets}{steps}. Losses are validation nats per "
        f"scored token. {evaluated}."
    )


def _isoflops() -> str:
    return (
        "At each budget a parabola of the loss in log N, through all runs, seeds included, gives N* and L*; D* is read "
        "off the runs of that budget at N*; power laws are least squares of logarithms on log C. Minima outside the "
        "grid of sizes are left out. The multiplier is the ratio of the budgets at which two laws L*(C) reach the same "
        f"loss, over the losses that both reach. Intervals are 95%, from {REPLICATES} replicates of a parametric "
        "bootstrap: normal noise around each parabola, its variance pooled over the budgets and seeds of an objective "
        "and drawn anew in each replicate (which makes the intervals Student's), never below the Monte Carlo error of "
        "the run. The choice of validation text is common to all runs and not part of the intervals."
    )


def methods(study: Study) -> list[str]:
    """One paragraph a kind of analysis; what was not done is not there."""
    if not any(run.status == "done" for run in study.results):
        return []
    paragraphs = [_runs(study)]
    if any(isinstance(best, Optima) for best in study.analysis.optima.values()):
        paragraphs.append(_isoflops())
    if any(isinstance(surface, ParametricFit) for surface in study.parametric_fits.values()):
        paragraphs.append(
            f"L(N, D) = E + A / N^alpha + B / D^beta is fitted to all runs of an objective at once (estimator "
            f"'{ESTIMATOR}', N without embeddings), from a grid of starts. Intervals of its parameters are profile "
            f"likelihoods with Student's threshold; that of the exponent of N* is from {RESAMPLES} resamples of runs."
        )
    if any(isinstance(one.crossing, Crossing) for found in study.repeated for one in found.overtakings):
        paragraphs.append(
            "A crossover is where the curves of the best sizes, means over seeds, cross for good, linear in log "
            f"epochs. Its interval is from {REPLICATES} replicates of a parametric bootstrap: the noise between seeds, "
            "pooled over the cells of an objective, and the Monte Carlo errors; the best size is chosen anew in each."
        )
    if any(isinstance(mean, SeedMean) for cell in study.cells for mean in cell.means.values()):
        paragraphs.append(
            "Means at one size and budget have Student's intervals over seeds, with the Monte Carlo error, which all "
            "seeds share, added to the variance; differences are paired by seed."
        )
    return paragraphs
