"""What the isoFLOP curves of a sweep support and what they do not, in sentences."""

from collections import defaultdict
from collections.abc import Mapping

from mdlm_jax.costs.counters import COUNTER_LABELS
from mdlm_jax.laws import MAX_DECADES, Multiplier, Optima, Refusal, interval
from mdlm_jax.report.analysis import Analysis, Comparison, likelihoods
from mdlm_jax.report.tight import Under
from mdlm_jax.style import number


def refusals(what: str, refused: Mapping[str, Refusal]) -> list[str]:
    """One sentence for each reason, with the objectives that share it."""
    sharing = defaultdict(list)
    for name, refusal in refused.items():
        sharing[refusal.reason].append(name)
    return [f"{', '.join(names)}: {what}: {reason}." for reason, names in sharing.items()]


def verdict(comparison: Comparison) -> tuple[bool, str]:
    """(whether the comparison supports a claim, the claim or why there is none)."""
    value = comparison.multiplier
    if isinstance(value, Refusal):
        name = "Control, " if comparison.control else ""
        pair = f"{comparison.other} against {comparison.reference}"
        return False, f"{name}{pair}: there is no compute multiplier, because {value.reason}."
    return _control(comparison, value) if comparison.control else _claim(comparison, value)


def _uncertainty(value: Multiplier) -> str:
    return (
        f"(95% interval {value.mean_low:.3g} to {value.mean_high:.3g}; geometric mean over {value.loss[0]:.3f} to "
        f"{value.loss[-1]:.3f} nats per token)"
    )


def _control(comparison: Comparison, value: Multiplier) -> tuple[bool, str]:
    text = (
        f"Control, {comparison.other} against {comparison.reference}: the two losses have the same expectation, so the "
        f"interval of the multiplier must cover 1. It is {value.mean:.3g} {_uncertainty(value)}"
    )
    if value.mean_low <= 1 <= value.mean_high:
        return True, f"{text}: passed."
    return False, f"{text}: FAILED. Differences of this size between other objectives may mean nothing."


def _claim(comparison: Comparison, value: Multiplier) -> tuple[bool, str]:
    if value.mean_low <= 1 <= value.mean_high:
        pair = f"{comparison.other} against {comparison.reference}"
        return (
            False,
            f"{pair}: compute multiplier {value.mean:.3g} {_uncertainty(value)}. The interval covers 1: it shows no "
            f"difference.{_with_floor(comparison, value)}",
        )
    needs = f"{comparison.other} needs {value.mean:.3g} times the compute of {comparison.reference} for the same loss"
    return True, f"{needs} {_uncertainty(value)}.{_trend(value)}{_with_floor(comparison, value)}"


def _with_floor(comparison: Comparison, pure: Multiplier) -> str:
    """The multiplier if the loss has an irreducible part, and how far it is from that of the power law."""
    found = comparison.with_floor
    if isinstance(found, Refusal):
        return ""
    value = found.multiplier
    return (
        f" With an irreducible loss (L = E + A C^-a, one E for both: {found.floor:.3f} nats, "
        f"{found.floor_low:.3f} to {found.floor_high:.3f}) it is {value.mean:.3g} ({value.mean_low:.3g} to "
        f"{value.mean_high:.3g}), {value.mean / pure.mean:.2f} times that of the power law."
    )


def _trend(value: Multiplier) -> str:
    """Whether the multiplier changes with the loss. Losses rise along its arrays, so compute falls."""
    apart = value.low[0] > value.high[-1] or value.high[0] < value.low[-1]
    if not apart:
        return " The ratio shows no trend with the loss."
    return f" The ratio goes from {value.value[-1]:.2f} to {value.value[0]:.2f} as the loss falls."


def exponent(best: Optima, what: str, symbol: str) -> str:
    """For example `N* ∝ C^0.461 [0.444, 0.479]`, the interval only if there is one.

    Args:
        best: The laws of one objective.
        what: Loss, parameters or tokens.
        symbol: How `what` is written: L, N or D.
    """
    text = f"{symbol}* ∝ C^{getattr(best, f'{what}_law').exponent:.3f}"
    if isinstance(best.sample, Refusal):
        return text
    low, high = interval(getattr(best.sample, f"{what}_exponent"))
    return f"{text} [{low:.3f}, {high:.3f}]"


def under_likelihood(found: Under) -> str:
    """The compute multiplier under one likelihood, or why there is none."""
    where = f"{found.other} against {found.reference}, {found.likelihood}: "
    if isinstance(found.multiplier, Refusal):
        return f"{where}no compute multiplier, because {found.multiplier.reason}."
    return f"{where}{found.multiplier.mean:.3g} {_uncertainty(found.multiplier)}."


def laws(analysis: Analysis) -> list[str]:
    """The exponents of each objective, with their intervals and counter."""
    sentences = []
    for name, best in analysis.optima.items():
        if isinstance(best, Refusal):
            continue
        exponents = [
            exponent(best, what, symbol) for symbol, what in zip("LND", ("loss", "parameters", "tokens"), strict=True)
        ]
        sentences.append(
            f"{name}: {', '.join(exponents)} (95% intervals), from {len(best.budgets)} interior minima between "
            f"{number(best.budgets[0])} and {number(best.budgets[-1])} FLOPs ({COUNTER_LABELS[best.counter]})."
        )
    return sentences


def _bounds(analysis: Analysis) -> list[str]:
    bounds = {name: mine[0].bound for name, mine in analysis.runs.items()}
    upper = [name for name in likelihoods(analysis) if bounds[name] == "upper"]
    sentences = []
    if upper and "exact" in bounds.values():
        losses, verb = ("losses", "are upper bounds") if len(upper) > 1 else ("loss", "is an upper bound")
        sentences.append(
            f"The {losses} of {' and '.join(upper)} {verb} on -log p(x), so a multiplier against an exact likelihood "
            "includes how loose the bound is."
        )
    for name in sorted(set(bounds) - set(likelihoods(analysis))):
        sentences.append(f"{name}: its loss bounds no likelihood, so it is compared with no other objective.")
    return sentences


def _scope(analysis: Analysis) -> list[str]:
    refused = {name: best for name, best in analysis.optima.items() if isinstance(best, Refusal)}
    sentences = refusals("no law", refused)
    for name, best in analysis.optima.items():
        if isinstance(best, Optima) and isinstance(best.sample, Refusal):
            sentences.append(f"{name}: its exponents have no interval: {best.sample.reason}.")
    budgets = [run.budget for runs in analysis.runs.values() for run in runs]
    sentences.append(
        f"The budgets run from {number(min(budgets))} to {number(max(budgets))} FLOPs. The laws say nothing about "
        f"larger models, and predictions stop {MAX_DECADES} decades outside this range."
    )
    sentences.append(
        f"The exponents hold for C in FLOPs ({COUNTER_LABELS[analysis.counter]}). Another way to count FLOPs may "
        "change those of N* and D*."
    )
    return sentences + _bounds(analysis)


def supported(analysis: Analysis) -> list[str]:
    """What the compute multipliers show."""
    return [text for holds, text in map(verdict, analysis.comparisons) if holds]


def not_supported(analysis: Analysis) -> list[str]:
    """Refused comparisons, failed runs, and how far the results reach."""
    sentences = [text for holds, text in map(verdict, analysis.comparisons) if not holds]
    if analysis.failed:
        runs = "1 run failed and is" if len(analysis.failed) == 1 else f"{len(analysis.failed)} runs failed and are"
        sentences.append(f"{runs} in no fit; see the table of runs.")
    if analysis.left_out:
        sentences.append(f"Not used: {len(analysis.left_out)} of the runs or files, listed below.")
    if not analysis.runs:
        return sentences if analysis.by_steps else [*sentences, "No run is done, so there is nothing to fit."]
    return sentences + _scope(analysis)
