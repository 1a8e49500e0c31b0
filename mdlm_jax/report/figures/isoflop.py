"""Loss against size at equal compute: what the minima are read off."""

import altair as alt
import numpy as np

from mdlm_jax.laws import IsoFlop, Minimum, Refusal
from mdlm_jax.report.analysis import Analysis, likelihoods
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification
from mdlm_jax.style import number

POINTS = 40  # of a drawn parabola


def _runs(analysis: Analysis, name: str) -> list[dict]:
    return [
        {
            "budget": run.budget,
            "N": run.parameters_non_embedding,
            "loss": run.loss,
            "run": run.run_id,
            "seed": run.seed,
            "D": run.tokens,
            "error": run.loss_standard_error,
        }
        for run in analysis.runs[name]
    ]


def _parabola(curve: IsoFlop) -> list[dict]:
    x = np.log(curve.parameters)
    at = np.linspace(x.min(), x.max(), POINTS)
    loss = np.polyval(np.polyfit(x - x.mean(), curve.loss, 2), at - x.mean())
    return [
        {"budget": curve.budget, "N": n, "loss": y} for n, y in zip(np.exp(at).tolist(), loss.tolist(), strict=True)
    ]


def _end(curve: IsoFlop) -> dict:
    """Where the budget is written: beside the largest size."""
    largest = float(curve.parameters.max())
    loss = float(curve.loss[curve.parameters == largest].mean())
    return {"budget": curve.budget, "N": largest, "loss": loss, "text": number(curve.budget)}


def _mark(curve: IsoFlop, minimum: Minimum) -> dict:
    return {"budget": curve.budget, "N": minimum.parameters, "loss": minimum.loss, "inside": minimum.interior}


def _panel(analysis: Analysis, name: str, losses: list[float | None], first: bool, panels: int) -> Specification:
    curves = analysis.minima[name]
    fitted = [(curve, minimum) for curve, minimum in curves if not isinstance(minimum, Refusal)]
    sizes = [run.parameters_non_embedding for run in analysis.runs[name]]
    width = charts.width(panels)
    x = charts.x("N", "non-embedding parameters N", sizes, charts.AMOUNT, room=3.5, pixels=0.8 * width)
    y = charts.y("loss", charts.NATS if first else None, losses)
    color = charts.shades("budget:O")
    tooltip = charts.tips(run="", loss=".4f", error=".2g", N=",", D=".3s", seed=",")
    runs = alt.Chart(charts.data(_runs(analysis, name))).mark_point(filled=True, size=34, opacity=1)
    layers = [
        alt.Chart(charts.data(row for curve, _ in fitted for row in _parabola(curve))).mark_line(strokeWidth=1.8),
        runs.encode(tooltip=tooltip),
        alt.Chart(charts.data(_end(curve) for curve, _ in curves))
        .mark_text(align="left", dx=7, fontSize=11)
        .encode(text="text:N"),
    ]
    layers = [layer.encode(x=x, y=y, color=color) for layer in layers]
    marks = alt.Chart(charts.data(_mark(curve, minimum) for curve, minimum in fitted))
    tooltip = charts.tips(N=".4~s", loss=".4f")
    star = {"shape": charts.STAR, "size": 110, "stroke": "black", "strokeWidth": 0.8, "filled": True, "opacity": 1}
    cross = {"shape": charts.CROSS, "size": 70, "stroke": charts.REFUSED, "strokeWidth": 2.4, "opacity": 1}
    layers += [
        marks.transform_filter("datum.inside").mark_point(**star).encode(x=x, y=y, color=color, tooltip=tooltip),
        marks.transform_filter("!datum.inside").mark_point(**cross).encode(x=x, y=y, tooltip=tooltip),
    ]
    own = "" if name in likelihoods(analysis) else " (bounds no likelihood: its own axis)"
    return charts.layered(layers, width=width, height=300, title=name + own, zoom=f"isoflops_{name}")


def isoflops(analysis: Analysis) -> Figure | None:
    """One panel an objective of several sizes, one parabola a budget, minima and refused minima marked."""
    drawn = [name for name, runs in analysis.runs.items() if len({run.parameters_non_embedding for run in runs}) > 1]
    if not drawn:
        return None
    together = likelihoods(analysis)
    losses = {name: [run.loss for run in analysis.runs[name]] for name in drawn}
    shared = [loss for name in drawn if name in together for loss in losses[name]]
    return Figure(
        "isoflops",
        "Loss against size at equal compute",
        "Each point is a run, and each budget has one parabola of the loss in log N, fitted to the runs of all seeds. "
        "The number beside a curve is its budget in FLOPs. A star is a minimum inside the grid of sizes. A red cross "
        "is the best size of a budget whose minimum is at the edge; no law uses it.",
        charts.panels(
            [
                _panel(analysis, name, shared if name in together else losses[name], index % 3 == 0, len(drawn))
                for index, name in enumerate(drawn)
            ],
            "IsoFLOP curves",
            charts.flops("the number beside a curve is its budget in FLOPs", analysis.counter) + "; "
            "star: minimum, red cross: minimum at the edge of the sizes",
        ),
    )
