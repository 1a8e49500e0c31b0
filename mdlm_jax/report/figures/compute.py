"""Loss against compute: finished runs with their laws, learning curves with their frontier, and multipliers."""

from typing import Any

import altair as alt
import numpy as np

from mdlm_jax.laws import Optima, Refusal, frontier
from mdlm_jax.report.analysis import Analysis, Comparison, likelihoods
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification

MAIN = 3.2  # of the widths of three panels, what the panel of all likelihoods may take


def _best(analysis: Analysis, name: str) -> list[dict]:
    runs = analysis.runs[name]
    loss = np.array([run.loss for run in runs])
    # By nominal budget: whole steps leave runs of one budget some FLOPs apart, which is no saving.
    best = frontier(np.array([run.budget for run in runs]), loss)
    return [{"objective": name, "C": runs[index].flops[analysis.counter], "loss": runs[index].loss} for index in best]


def _law(name: str, best: Optima) -> list[dict]:
    law = best.loss_law
    budgets = np.geomspace(law.low, law.high, 30).tolist()
    return [{"objective": name, "C": c, "loss": law.coefficient * c**law.exponent} for c in budgets]


def _panel(analysis: Analysis, names: list[str], title: str, width: int) -> Specification:
    picked = alt.selection_point(name=f"{names[0]}_picked", fields=["objective"], bind="legend")
    runs = [
        {
            "objective": name,
            "C": run.flops[analysis.counter],
            "loss": run.loss,
            "run": run.run_id,
            "N": run.parameters_non_embedding,
            "D": run.tokens,
            "error": run.loss_standard_error,
        }
        for name in names
        for run in analysis.runs[name]
    ]
    x = charts.x("C", charts.flops("training FLOPs", analysis.counter), [run["C"] for run in runs], pixels=width)
    y = charts.y("loss", charts.NATS, [run["loss"] for run in runs], log=True)
    laws = [(name, best) for name in names if isinstance(best := analysis.optima[name], Optima)]
    tooltip = charts.tips(run="", loss=".4f", error=".2g", N=",", D=".3s")
    dim = lambda opacity: alt.when(picked).then(alt.value(opacity)).otherwise(alt.value(0.06))  # noqa: E731
    shape, widths = charts.shape(names, analysis.runs), charts.nested_widths(names)
    best = alt.Chart(charts.data(row for name in names for row in _best(analysis, name)))
    layers = [
        alt.Chart(charts.data(runs)).mark_point(filled=True, size=34).encode(tooltip=tooltip, opacity=dim(0.4)),
        best.mark_line().encode(opacity=dim(0.8), strokeWidth=widths),
        best.mark_point(filled=False, size=90, strokeWidth=2).encode(opacity=dim(1.0)),
        alt.Chart(charts.data(row for law in laws for row in _law(*law)))
        .mark_line(strokeDash=[6, 4], strokeWidth=1.6)
        .encode(opacity=dim(1.0)),
    ]
    layers = [layer.encode(x=x, y=y, color=charts.color(names, analysis.runs)) for layer in layers]
    layers[0], layers[2] = layers[0].encode(shape=shape).add_params(picked), layers[2].encode(shape=shape)
    return charts.layered(layers, width=width, height=340, title=title, zoom=f"{names[0]}_loss")


def loss_against_flops(analysis: Analysis) -> Figure | None:
    """Every run, the best runs and the law L*(C) of each objective that has several budgets."""
    drawn = [name for name, runs in analysis.runs.items() if len({run.budget for run in runs}) > 1]
    if not drawn:
        return None
    together = [name for name in likelihoods(analysis) if name in drawn]
    others = [name for name in drawn if name not in together]
    shown = [(together, "losses that are or bound -log p(x)" if others else "")] if together else []
    shown += [([name], f"{name}: bounds no likelihood, own axis") for name in others]
    width = charts.WIDTH - 250 if len(shown) == 1 else charts.WIDTH // min(len(shown), 3) - 180
    return Figure(
        "loss_against_flops",
        "Loss against compute",
        "Small points: every run. Large points and solid lines: the best run of each budget, if no cheaper run has as "
        "low a loss. Dashed lines: the power law through the isoFLOP minima.",
        charts.panels(
            [_panel(analysis, names, title, width) for names, title in shown],
            "Loss against training compute",
            "small: every run; large: best run of each budget; dashed: power law through the minima",
        ),
    )


def _multiplier(analysis: Analysis, comparison: Comparison, domain: list[float], width: int) -> Specification:
    value: Any = comparison.multiplier  # no Refusal: those have no panel
    rows = [
        {"loss": loss, "value": middle, "low": low, "high": high, "objective": comparison.other}
        for loss, middle, low, high in zip(
            value.loss.tolist(), value.value.tolist(), value.low.tolist(), value.high.tolist(), strict=True
        )
    ]
    x = charts.x("loss", "validation loss (nats per token), better to the right", value.loss, log=False, reverse=True)
    title = "ratio of compute at equal loss"
    y, low = (charts.y(field, title, domain, log=True) for field in ("value", "low"))
    color = charts.color(list(analysis.runs), analysis.runs, legend=False)
    tooltip = charts.tips(loss=".3f", value=".3g", low=".3g", high=".3g")
    chart = alt.Chart(charts.data(rows))
    layers = [
        chart.mark_area(opacity=0.2).encode(x=x, y=low, y2="high:Q", color=color),
        chart.mark_line(strokeWidth=2.2).encode(x=x, y=y, color=color, tooltip=tooltip),
        alt.Chart(charts.data([{"one": 1}])).mark_rule(strokeWidth=1.2).encode(y=alt.Y("one:Q", title=title)),
    ]
    pair = f"{comparison.other} / {comparison.reference}"
    mean = f"×{value.mean:.3g} [{value.mean_low:.3g}, {value.mean_high:.3g}]"
    heading = {"text": f"control: {pair}" if comparison.control else pair, "subtitle": f"{mean}, geometric mean"}
    zoom = f"{comparison.other}_over_{comparison.reference}"
    return charts.layered(layers, width=width, height=260, title=heading, zoom=zoom)


def multipliers(analysis: Analysis) -> Figure | None:
    """The ratio against the loss with its interval: one panel for each comparison, the controls last."""
    drawn = [c for c in analysis.comparisons if not isinstance(c.multiplier, Refusal)]
    if not drawn:
        return None
    ends = lambda some: [  # noqa: E731
        min(1.0, *(c.multiplier.low.min() for c in some)),
        max(1.0, *(c.multiplier.high.max() for c in some)),
    ]
    claims, controls = [c for c in drawn if not c.control], [c for c in drawn if c.control]
    charted = [
        _multiplier(analysis, comparison, [float(end) for end in ends(some)], charts.width(len(drawn)))
        for some in (claims, controls)
        for comparison in some
    ]
    caption = "Compute that one objective needs over what the other needs for the same loss, with its 95% interval."
    if controls:
        caption += " The control compares two objectives whose losses have the same expectation: it must cover 1."
    return Figure(
        "compute_multiplier",
        "Compute multiplier",
        caption,
        charts.panels(
            charted,
            "Compute needed for the same loss, with 95% intervals",
            charts.flops("1 is no difference; compute is FLOPs", analysis.counter),
        ),
    )
