"""The figures of a report. One colour and one marker an objective; a loss that bounds nothing has its own axis."""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mdlm_jax.scaling.analysis import Analysis, likelihoods
from mdlm_jax.scaling.fit import Optima, PowerLaw, Refusal, frontier, interval

# Okabe and Ito's palette, safe for colour-blind readers; the objectives of the package keep theirs in every report.
PALETTE = ["#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
ORDER = ["ar", "any_order", "masked", "any_order_causal", "masked_lm"]
NATS = "validation loss (nats per token)"


def number(value: float) -> str:
    """3e10, 2.5e-3, 12.3k: short enough for a legend."""
    if 1e3 <= abs(value) < 1e9:
        unit, scale = ("M", 1e6) if abs(value) >= 999_500 else ("k", 1e3)
        return f"{value / scale:.3g}{unit}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def look(objective: str, objectives: Iterable[str]) -> dict[str, str]:
    """Colour and marker of an objective among these."""
    names = ORDER + sorted(set(objectives) - set(ORDER))
    place = names.index(objective)
    return {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}


def _figure(panels: int) -> tuple[Figure, np.ndarray]:
    columns = 2 if panels == 4 else min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(max(7.0, 4.2 * columns), 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[panels:]:
        axis.remove()
    for axis in axes[:panels]:
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[:panels]


def _plain_log(axis: Axes, which: str) -> None:
    """A log axis with a few plain numbers, which a span of a decade or less needs. Call it when all is drawn."""
    axis.set(**{f"{which}scale": "log"})
    line = getattr(axis, f"{which}axis")
    low, high = line.get_view_interval()
    span = high / low
    subs = (1,) if span > 200 else (1, 2, 5) if span > 20 else (1, 2, 3, 5)
    line.set_major_locator(LogLocator(subs=subs) if span > 4 else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    line.set_minor_locator(NullLocator())
    line.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _share_y(axes: Sequence[Axes]) -> None:
    bounds = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in bounds), max(high for _, high in bounds))


def _legend_above(axis: Axes, title: str) -> None:
    sizes = {"fontsize": 9, "title_fontsize": 9, "frameon": False, "alignment": "left"}
    axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), title=title, **sizes)


def exponent(best: Optima, what: str, symbol: str) -> str:
    """The law of `what` in short, with the interval of its exponent where there is one. Print its counter beside it."""
    text = f"{symbol}* ∝ C^{getattr(best, f'{what}_law').exponent:.3f}"
    if isinstance(best.sample, Refusal):
        return text
    low, high = interval(getattr(best.sample, f"{what}_exponent"))
    return f"{text} [{low:.3f}, {high:.3f}]"


def _law_line(axis: Axes, law: PowerLaw, color: str) -> None:
    x = np.geomspace(law.low, law.high, 50)
    axis.plot(x, law.coefficient * x**law.exponent, color=color, linestyle="--", linewidth=1.2)


def loss_against_flops(analysis: Analysis) -> Figure:
    """Every run, the compute-efficient frontier of each objective and its law L*(C)."""
    together = likelihoods(analysis)
    panels = ([together] if together else []) + [[name] for name in analysis.runs if name not in together]
    figure, axes = _figure(len(panels))
    for axis, names in zip(axes, panels, strict=True):
        for name in names:
            style, optimum = look(name, analysis.runs), analysis.optima[name]
            flops = np.array([run.flops[analysis.counter] for run in analysis.runs[name]])
            loss = np.array([run.loss for run in analysis.runs[name]])
            # By nominal budget: whole steps leave runs of one budget some FLOPs apart, which is no saving.
            best = frontier(np.array([run.budget for run in analysis.runs[name]]), loss)
            axis.scatter(flops, loss, s=26, alpha=0.35, linewidth=0, **style)
            label = f"{name}: {exponent(optimum, 'loss', 'L')}" if isinstance(optimum, Optima) else name
            axis.plot(flops[best], loss[best], markersize=6, linewidth=1.6, label=label, **style)
            if isinstance(optimum, Optima):
                _law_line(axis, optimum.loss_law, style["color"])
        axis.set(xlabel=f"training FLOPs (counter: {analysis.counter})", ylabel=NATS)
        _plain_log(axis, "x")
        _plain_log(axis, "y")
        shown = f"exponent [95% interval], C in {analysis.counter} FLOPs"
        _legend_above(axis, shown if names == together else "bounds no likelihood: its own axis")
    return figure


def isoflops(analysis: Analysis) -> Figure:
    """One panel an objective, one parabola a budget, minima marked, those at the edge marked as refused."""
    figure, axes = _figure(len(analysis.minima))
    together = likelihoods(analysis)
    inside = {"marker": "*", "s": 170, "edgecolor": "black", "linewidth": 0.8}
    refused = {"marker": "x", "s": 110, "color": "#c00000", "linewidth": 2.2}
    for axis, (name, curves) in zip(axes, analysis.minima.items(), strict=True):
        shades = colormaps["viridis"](np.linspace(0.0, 0.8, len(curves)))
        for shade, (curve, minimum) in zip(shades, curves, strict=True):
            axis.plot(curve.parameters, curve.loss, look(name, analysis.runs)["marker"], color=shade, markersize=5)
            end = (curve.parameters[-1], curve.loss[-1])
            away = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
            axis.annotate(number(curve.budget), end, color=shade, fontsize=9, annotation_clip=False, **away)
            if isinstance(minimum, Refusal):
                continue
            x = np.linspace(*np.log(curve.parameters[[0, -1]]), 60)
            axis.plot(np.exp(x), np.polyval(np.polyfit(np.log(curve.parameters), curve.loss, 2), x), color=shade)
            style = {"color": shade, **inside} if minimum.interior else refused
            axis.scatter(minimum.parameters, minimum.loss, zorder=5, **style)
        own = "" if name in together else " (own axis)"
        axis.set(xlabel="non-embedding parameters N", ylabel=NATS, title=name + own, xscale="log")
        axis.margins(x=0.12)
        _plain_log(axis, "x")
    _share_y([axis for axis, name in zip(axes, analysis.minima, strict=True) if name in together])
    handles = [
        axes[0].scatter([], [], label="minimum", color="white", **inside),
        axes[0].scatter([], [], label="best run, minimum at the edge: refused", **refused),
    ]
    title = f"at each curve: its budget in FLOPs (counter: {analysis.counter})"
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def optimal_sizes(analysis: Analysis) -> Figure:
    """N* and D* of the interior minima against C, with their laws."""
    figure, axes = _figure(2)
    for axis, symbol, what in zip(axes, "ND", ("parameters", "tokens"), strict=True):
        for name, best in analysis.optima.items():
            if isinstance(best, Refusal):
                continue
            style, label = look(name, analysis.runs), f"{name}: {exponent(best, what, symbol)}"
            axis.plot(best.budgets, getattr(best, what), linestyle="none", markersize=7, label=label, **style)
            _law_line(axis, getattr(best, f"{what}_law"), style["color"])
        unit = "non-embedding parameters N*" if symbol == "N" else "training tokens D*"
        axis.set(xlabel=f"budget C in FLOPs (counter: {analysis.counter})", ylabel=unit)
        _plain_log(axis, "x")
        _plain_log(axis, "y")
        _legend_above(axis, f"exponent [95% interval], C in {analysis.counter} FLOPs")
    return figure


def multipliers(analysis: Analysis) -> Figure:
    """One panel a comparison: the factor against the loss, with its interval, or the words of its refusal."""
    figure, axes = _figure(len(analysis.comparisons))
    drawn = []
    for axis, comparison in zip(axes, analysis.comparisons, strict=True):
        value, style = comparison.multiplier, look(comparison.other, analysis.runs)
        axis.set_title(("control: " if comparison.control else "") + f"{comparison.other} / {comparison.reference}")
        if isinstance(value, Refusal):
            words = "\n".join(["refused", "", *textwrap.wrap(value.reason, 36)])
            axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", color="#a00000")
            axis.set_axis_off()
            continue
        axis.axhline(1.0, color="black", linewidth=1.0)
        axis.fill_between(value.loss, value.low, value.high, color=style["color"], alpha=0.2, linewidth=0)
        axis.plot(value.loss, value.value, color=style["color"], linewidth=2)
        words = f"×{value.mean:.3g}  [{value.mean_low:.3g}, {value.mean_high:.3g}]"
        axis.text(0.5, 0.97, words, transform=axis.transAxes, ha="center", va="top", fontsize=12)
        low, high = min(0.9, value.low.min()), max(1.1, value.high.max())
        axis.set_ylim(low / (high / low) ** 0.1, high * (high / low) ** 0.25)
        axis.invert_xaxis()
        axis.set(xlabel=f"{NATS}, better to the right", ylabel="times the compute, at equal loss")
        drawn.append((axis, comparison.control))
    _share_y([axis for axis, control in drawn if not control])
    for axis, _ in drawn:
        _plain_log(axis, "y")
    return figure


def learning_curves(analysis: Analysis, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Training loss against exact FLOPs so far, one panel an objective; `curves` are (flops, loss) by run id."""
    figure, axes = _figure(len(analysis.runs))
    for axis, (name, runs) in zip(axes, analysis.runs.items(), strict=True):
        shown = sorted((run for run in runs if run.run_id in curves), key=lambda run: run.parameters_non_embedding)
        sizes = list(dict.fromkeys(run.size for run in shown))
        shades = dict(zip(sizes, colormaps["viridis"](np.linspace(0.0, 0.85, len(sizes))), strict=True))
        for run in shown:
            axis.plot(*curves[run.run_id], color=shades[run.size], linewidth=0.9, alpha=0.8)
        handles = [Line2D([], [], color=shades[size], label=size) for size in sizes]
        axis.legend(handles=handles, fontsize=8, frameon=False, title="size", title_fontsize=8)
        own = "" if name in likelihoods(analysis) else " (own axis)"
        axis.set(
            xscale="log",
            xlabel="training FLOPs so far (counter: exact)",
            ylabel="training loss (nats per token)",
            title=name + own,
        )
    panels = zip(axes, analysis.runs, strict=True)
    _share_y([axis for axis, name in panels if name in likelihoods(analysis)])
    return figure
