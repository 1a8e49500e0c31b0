"""What the numbers of a sweep support and what they don't, in sentences."""

from mdlm_jax.scaling.analysis import Analysis, Comparison, likelihoods
from mdlm_jax.scaling.figures import exponent, number
from mdlm_jax.scaling.fit import MAX_DECADES, Multiplier, Optima, Refusal


def verdict(comparison: Comparison) -> tuple[bool, str]:
    """Whether a comparison supports a claim, and the claim or why there is none."""
    pair, value = f"{comparison.other} against {comparison.reference}", comparison.multiplier
    if isinstance(value, Refusal):
        name = "Control, " if comparison.control else ""
        return False, f"{name}{pair}: the compute multiplier is refused. {value.reason[0].upper()}{value.reason[1:]}."
    measured = (
        f"×{value.mean:.3g} (95% interval {value.mean_low:.3g} to {value.mean_high:.3g}; "
        f"geometric mean over {value.loss[0]:.3f} to {value.loss[-1]:.3f} nats per token)"
    )
    covers = value.mean_low <= 1 <= value.mean_high
    if comparison.control:
        text = f"Control, {pair}: the two losses have one expectation, so the multiplier must cover 1. It is {measured}"
        if covers:
            return True, f"{text}: passed."
        return False, f"{text}: FAILED. Differences of this size between other objectives may be no more than this."
    if covers:
        return False, f"{pair}: compute multiplier {measured}. The interval covers 1: no difference is shown."
    more = "more" if value.mean > 1 else "less"
    return True, f"{pair}: {more} compute for the same loss, {measured}.{_trend(value)}"


def _trend(value: Multiplier) -> str:
    """The losses rise along the multiplier, so compute falls."""
    apart = value.low[0] > value.high[-1] or value.high[0] < value.low[-1]
    if not apart:
        return " No trend with the loss is resolved."
    return f" It goes from ×{value.value[-1]:.2f} to ×{value.value[0]:.2f} as the loss falls."


def _laws(analysis: Analysis) -> list[str]:
    sentences = []
    for name, best in analysis.optima.items():
        if isinstance(best, Refusal):
            continue
        exponents = [
            exponent(best, what, symbol) for symbol, what in zip("LND", ("loss", "parameters", "tokens"), strict=True)
        ]
        sentences.append(
            f"{name}: {', '.join(exponents)} (95% intervals), from {len(best.budgets)} interior minima between "
            f"{number(best.budgets[0])} and {number(best.budgets[-1])} FLOPs of the counter '{best.counter}'."
        )
    return sentences


def _minima(analysis: Analysis) -> list[str]:
    sentences = []
    for name, curves in analysis.minima.items():
        for curve, minimum in curves:
            where = f"{name} at {number(curve.budget)} FLOPs: "
            if isinstance(minimum, Refusal):
                sentences.append(f"{where}no minimum, {minimum.reason}.")
            elif not minimum.interior:
                sizes = f"{number(curve.parameters[0])} to {number(curve.parameters[-1])} parameters"
                sentences.append(
                    f"{where}the minimum is at the edge of the grid ({sizes}), the best run has "
                    f"{number(minimum.parameters)}; the budget is left out of all laws."
                )
    return sentences


def _cautions(analysis: Analysis) -> list[str]:
    sentences = []
    for name, best in analysis.optima.items():
        if isinstance(best, Refusal):
            sentences.append(f"{name}: no law. {best.reason[0].upper()}{best.reason[1:]}.")
        elif isinstance(best.sample, Refusal):
            sentences.append(f"{name}: its exponents have no interval. {best.sample.reason.capitalize()}.")
        if isinstance(best, Optima) and len(best.budgets) == 2:
            sentences.append(f"{name}: two minima fix a power law and leave nothing to test it with.")
    runs = [run for mine in analysis.runs.values() for run in mine]
    cells = [(run.objective, run.size, run.budget) for run in runs]
    if len(set(cells)) == len(cells):
        sentences.append("One seed a run: the noise is judged by how far the runs lie from their parabolas only.")
    budgets = [run.budget for run in runs]
    sentences.append(
        f"The budgets run from {number(min(budgets))} to {number(max(budgets))} FLOPs: nothing is said about models "
        f"beyond, and the fits refuse to go further than {MAX_DECADES} decades."
    )
    sentences.append(
        f"Exponents hold for C of the counter '{analysis.counter}'; another one may move those of N* and D*."
    )
    bounds = {name: mine[0].bound for name, mine in analysis.runs.items()}
    upper = [name for name in likelihoods(analysis) if bounds[name] == "upper"]
    if upper and "exact" in bounds.values():
        sentences.append(
            f"The loss of {' and '.join(upper)} is an upper bound of -log p: a multiplier against an exact likelihood "
            "also contains how loose that bound is."
        )
    for name in sorted(set(bounds) - set(likelihoods(analysis))):
        sentences.append(f"{name}: its loss bounds no likelihood, so it is compared with nothing.")
    epochs = max(run.epochs for run in runs)
    if epochs > 1.5:
        sentences.append(f"Data is repeated, up to {epochs:.1f} times: part of what is measured may be that.")
    return sentences


def supported(analysis: Analysis) -> list[str]:
    """The claims that the numbers support, the compute multipliers first."""
    verdicts = [verdict(comparison) for comparison in analysis.comparisons]
    return [text for holds, text in verdicts if holds] + _laws(analysis)


def not_supported(analysis: Analysis) -> list[str]:
    """What was refused, what failed, and how far the rest goes."""
    sentences = [text for holds, text in map(verdict, analysis.comparisons) if not holds]
    if analysis.failed:
        sentences.append(f"Failed, and missing from every fit: {len(analysis.failed)} of the runs, listed below.")
    if analysis.left_out:
        sentences.append(f"Not used: {len(analysis.left_out)} of the runs, listed below.")
    if not analysis.runs:
        return [*sentences, "No run is done, so there is nothing to fit."]
    return sentences + _minima(analysis) + _cautions(analysis)


def methods(analysis: Analysis) -> str:
    """How the numbers were made, from the results themselves."""
    runs = [run for mine in analysis.runs.values() for run in mine]
    if not runs:
        return ""
    per_objective = []
    for name, mine in analysis.runs.items():
        rates = sorted({run.learning_rate for run in mine})
        rate = number(rates[0]) if len(rates) == 1 else f"{number(rates[0])} to {number(rates[-1])}"
        draws = sorted({run.draws for run in mine})
        estimators = ", ".join(sorted({run.estimator for run in mine}))
        per_objective.append(
            f"{name}: {estimators}, {' or '.join(map(str, draws))} noise draws a sequence, bound '{mine[0].bound}', "
            f"learning rate {rate}"
        )
    devices = ", ".join(sorted({run.device for run in runs}))
    versions = ", ".join(sorted({f"{name} {version}" for run in runs for name, version in run.versions.items()}))
    return (
        f"{len(runs)} runs on {devices} ({versions}), {sum(run.wall_seconds for run in runs):.0f} s of training in "
        f"all, each given a budget in FLOPs of the counter '{analysis.counter}'. Losses are validation nats per scored "
        "token. "
        f"{'. '.join(per_objective)}. At each budget a parabola of the loss in log N gives N* and L*; D* is read off "
        "the runs of that budget at N*; power laws are least squares of logarithms on log C. Minima outside the grid "
        "of sizes are left out. The multiplier is the ratio of the budgets at which two laws L*(C) reach the same "
        "loss, over the losses that both reach. Intervals are 95%, from 2000 replicates of a parametric bootstrap: "
        "normal noise around each parabola, its variance pooled over the budgets of an objective and drawn anew in "
        "each replicate (which makes the intervals Student's), never below the Monte Carlo error of the run. The "
        "choice of validation text is common to all runs and not part of the intervals."
    )
