"""What the isoFLOP curves of a sweep support and what they don't, in sentences."""

from collections import defaultdict
from collections.abc import Mapping

from mdlm_jax.laws import MAX_DECADES, Multiplier, Optima, Refusal, interval
from mdlm_jax.report.analysis import Analysis, Comparison, likelihoods
from mdlm_jax.style import number


def refusals(what: str, refused: Mapping[str, Refusal]) -> list[str]:
    """One sentence a reason, with the objectives that share it."""
    sharing = defaultdict(list)
    for name, refusal in refused.items():
        sharing[refusal.reason].append(name)
    return [f"{', '.join(names)}: {what}: {reason}." for reason, names in sharing.items()]


def verdict(comparison: Comparison) -> tuple[bool, str]:
    """Whether a comparison supports a claim, and the claim or why there is none."""
    pair, value = f"{comparison.other} against {comparison.reference}", comparison.multiplier
    if isinstance(value, Refusal):
        name = "Control, " if comparison.control else ""
        return False, f"{name}{pair}: the compute multiplier is refused: {value.reason}."
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


def exponent(best: Optima, what: str, symbol: str) -> str:
    """The law of `what` in short, with the interval of its exponent where there is one. Print its counter beside it."""
    text = f"{symbol}* ∝ C^{getattr(best, f'{what}_law').exponent:.3f}"
    if isinstance(best.sample, Refusal):
        return text
    low, high = interval(getattr(best.sample, f"{what}_exponent"))
    return f"{text} [{low:.3f}, {high:.3f}]"


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
            f"{number(best.budgets[0])} and {number(best.budgets[-1])} FLOPs of the counter '{best.counter}'."
        )
    return sentences


def _scope(analysis: Analysis) -> list[str]:
    sentences = []
    sentences += refusals("no law", {name: best for name, best in analysis.optima.items() if isinstance(best, Refusal)})
    for name, best in analysis.optima.items():
        if isinstance(best, Optima) and isinstance(best.sample, Refusal):
            sentences.append(f"{name}: its exponents have no interval: {best.sample.reason}.")
    budgets = [run.budget for runs in analysis.runs.values() for run in runs]
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
    return sentences


def supported(analysis: Analysis) -> list[str]:
    """What the compute multipliers show."""
    return [text for holds, text in map(verdict, analysis.comparisons) if holds]


def not_supported(analysis: Analysis) -> list[str]:
    """What was refused, what failed, and how far the rest goes."""
    sentences = [text for holds, text in map(verdict, analysis.comparisons) if not holds]
    if analysis.failed:
        sentences.append(f"Failed, and missing from every fit: {len(analysis.failed)} of the runs, listed below.")
    if analysis.left_out:
        sentences.append(f"Not used: {len(analysis.left_out)} of the runs or files, listed below.")
    if not analysis.runs:
        return sentences if analysis.by_steps else [*sentences, "No run is done, so there is nothing to fit."]
    return sentences + _scope(analysis)
