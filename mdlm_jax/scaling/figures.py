"""The figures of a report. One colour and one marker an objective; a loss that bounds nothing has its own axis."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

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


def _figure(columns: int, rows: int = 1) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(max(7.0, 4.2 * columns), 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain_log(axis: Axes, which: str) -> None:
    """A log axis that spans less than a decade or two reads best with few plain numbers."""
    axis.set(**{f"{which}scale": "log"})
    line = getattr(axis, f"{which}axis")
    line.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    line.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    line.set_minor_formatter(NullFormatter())


def _share_loss_axis(axes: Sequence[Axes]) -> None:
    bounds = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in bounds), max(high for _, high in bounds))


def _law_line(axis: Axes, law: PowerLaw, color: str, label: str) -> None:
    x = np.geomspace(law.low, law.high, 50)
    axis.plot(x, law.coefficient * x**law.exponent, color=color, linestyle="--", linewidth=1.2, label=label)


def loss_against_flops(analysis: Analysis) -> Figure:
    """Every run, the compute-efficient frontier of each objective and its law L*(C)."""
    together = likelihoods(analysis)
    panels = ([together] if together else []) + [[name] for name in analysis.runs if name not in together]
    figure, axes = _figure(len(panels))
    for axis, names in zip(axes, panels, strict=True):
        for name in names:
            style = look(name, analysis.runs)
            flops = np.array([run.flops[analysis.counter] for run in analysis.runs[name]])
            loss = np.array([run.loss for run in analysis.runs[name]])
            best = frontier(flops, loss)
            axis.scatter(flops, loss, s=26, alpha=0.35, linewidth=0, **style)
            label = f"{name}: frontier of {len(loss)} runs"
            axis.plot(flops[best], loss[best], markersize=6, linewidth=1.6, label=label, **style)
            optimum = analysis.optima[name]
            if isinstance(optimum, Optima):
                law = optimum.loss_law
                _law_line(axis, law, style["color"], f"{name}: minima, L* ∝ C^{law.exponent:.3f}")
        axis.set(xscale="log", xlabel=f"training FLOPs, counted as {analysis.counter}", ylabel=NATS)
        _plain_log(axis, "y")
        axis.legend(fontsize=8, frameon=False)
        if names != together:
            axis.set_title(f"{names[0]}: bounds no likelihood, own axis", fontsize=10)
    return figure


def isoflops(analysis: Analysis) -> Figure:
    """One panel an objective, one parabola a budget, minima marked, those at the edge marked as refused."""
    figure, axes = _figure(len(analysis.minima))
    for axis, (name, curves) in zip(axes, analysis.minima.items(), strict=True):
        shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(curves)))
        refused = False
        for shade, (curve, minimum) in zip(shades, curves, strict=True):
            marker = look(name, analysis.runs)["marker"]
            axis.plot(
                curve.parameters, curve.loss, marker, color=shade, markersize=5, label=f"{number(curve.budget)} FLOPs"
            )
            if isinstance(minimum, Refusal):
                continue
            x = np.linspace(*np.log(curve.parameters[[0, -1]]), 60)
            axis.plot(np.exp(x), np.polyval(np.polyfit(np.log(curve.parameters), curve.loss, 2), x), color=shade)
            if minimum.interior:
                star = {"marker": "*", "s": 170, "color": shade, "edgecolor": "black", "linewidth": 0.8}
            else:
                star = {"marker": "x", "s": 110, "color": "#c00000", "linewidth": 2.2}
                refused = True
            axis.scatter(minimum.parameters, minimum.loss, zorder=5, **star)
        axis.scatter([], [], marker="*", s=110, color="white", edgecolor="black", label="minimum")
        if refused:
            axis.scatter([], [], marker="x", s=70, color="#c00000", linewidth=2, label="at the edge: refused")
        own = "" if name in likelihoods(analysis) else " (own axis)"
        axis.set(xlabel="non-embedding parameters N", ylabel=NATS, title=name + own, xscale="log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.legend(fontsize=8, frameon=False)
    panels = zip(axes, analysis.minima, strict=True)
    _share_loss_axis([axis for axis, name in panels if name in likelihoods(analysis)])
    return figure


def optimal_sizes(analysis: Analysis) -> Figure:
    """N* and D* of the interior minima against C, with their laws."""
    figure, axes = _figure(2)
    for axis, symbol, what in zip(axes, "ND", ("parameters", "tokens"), strict=True):
        for name, best in analysis.optima.items():
            if isinstance(best, Refusal):
                continue
            style = look(name, analysis.runs)
            law: PowerLaw = getattr(best, f"{what}_law")
            label = f"{name}: {symbol}* ∝ C^{law.exponent:.2f}"
            if not isinstance(best.sample, Refusal):
                low, high = interval(getattr(best.sample, f"{what}_exponent"))
                label += f"  [{low:.2f}, {high:.2f}]"
            axis.plot(best.budgets, getattr(best, what), linestyle="none", markersize=7, **style)
            _law_line(axis, law, style["color"], label)
        unit = "non-embedding parameters N*" if symbol == "N" else "training tokens D*"
        axis.set(xscale="log", yscale="log", xlabel=f"budget C (FLOPs, counted as {analysis.counter})", ylabel=unit)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        if axis.lines:
            axis.legend(fontsize=8, frameon=False, title="exponent [95% interval]", title_fontsize=8)
    return figure


def multipliers(analysis: Analysis) -> Figure:
    """One panel a comparison: the factor against the loss, with its interval, or the words of its refusal."""
    figure, axes = _figure(len(analysis.comparisons))
    for axis, comparison in zip(axes, analysis.comparisons, strict=True):
        value, style = comparison.multiplier, look(comparison.other, analysis.runs)
        axis.set_title(("control: " if comparison.control else "") + f"{comparison.other} / {comparison.reference}")
        if isinstance(value, Refusal):
            axis.text(
                0.5, 0.5, f"refused\n\n{value.reason}", transform=axis.transAxes, ha="center", va="center", wrap=True
            )
            axis.set_axis_off()
            continue
        axis.axhline(1.0, color="black", linewidth=1.0)
        axis.fill_between(value.loss, value.low, value.high, color=style["color"], alpha=0.2, linewidth=0)
        axis.plot(value.loss, value.value, color=style["color"], linewidth=2)
        words = f"×{value.mean:.2f}  [{value.mean_low:.2f}, {value.mean_high:.2f}]"
        axis.text(0.5, 0.97, words, transform=axis.transAxes, ha="center", va="top", fontsize=12)
        spread = max(1.3, *(max(edge, 1 / edge) for edge in (value.low.min(), value.high.max())))
        axis.set_ylim(min(0.9, value.low.min()) / spread**0.15, max(1.1, value.high.max()) * spread**0.25)
        _plain_log(axis, "y")
        axis.invert_xaxis()
        axis.set(xlabel=f"{NATS}, better to the right", ylabel="compute needed for the same loss")
    return figure


def learning_curves(analysis: Analysis, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Training loss against the FLOPs spent so far; `curves` are (flops, loss) by run id. One panel an objective."""
    figure, axes = _figure(len(analysis.runs))
    for axis, (name, runs) in zip(axes, analysis.runs.items(), strict=True):
        sizes = sorted({(run.parameters_non_embedding, run.size) for run in runs})
        shades = dict(zip(sizes, colormaps["viridis"](np.linspace(0.0, 0.85, len(sizes))), strict=True))
        labelled = set()
        for run in runs:
            if run.run_id not in curves:
                continue
            size = (run.parameters_non_embedding, run.size)
            label = None if size in labelled else run.size
            labelled.add(size)
            axis.plot(*curves[run.run_id], color=shades[size], linewidth=0.9, alpha=0.8, label=label)
        axis.set(xscale="log", xlabel="training FLOPs so far", ylabel="training loss (nats per token)", title=name)
        if labelled:
            axis.legend(fontsize=8, frameon=False, title="size", title_fontsize=8)
    panels = zip(axes, analysis.runs, strict=True)
    _share_loss_axis([axis for axis, name in panels if name in likelihoods(analysis)])
    return figure
