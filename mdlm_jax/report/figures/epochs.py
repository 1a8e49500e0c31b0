"""Loss against epochs of limited data: every size, the best of them, and where one objective overtakes another."""

import altair as alt
import numpy as np

from mdlm_jax.laws import Cells, Crossing, best_size
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification
from mdlm_jax.report.repeated import Repeated
from mdlm_jax.style import number

EPOCHS = "epochs over the unique tokens"


def _sizes(found: Repeated, name: str, losses: list[float | None], first: bool, panels: int) -> Specification:
    runs, table = found.runs[name], found.cells[name]
    points = [
        {"epochs": run.epochs, "loss": run.loss, "N": run.parameters_non_embedding, "run": run.run_id, "seed": run.seed}
        for run in runs
    ]
    means = [
        {"epochs": epochs, "loss": loss, "N": size}
        for size, row in zip(table.parameters.tolist(), table.loss.tolist(), strict=True)
        for epochs, loss in zip(table.epochs.tolist(), row, strict=True)
        if np.isfinite(loss)
    ]
    width = charts.width(panels, 135)
    x = charts.x("epochs", EPOCHS, table.epochs, charts.PLAIN, pixels=width)
    y = charts.y("loss", charts.NATS if first else None, losses, log=True)
    color = charts.shades("N:O", "N", alt.Legend(format=".3~s"))
    tooltip = charts.tips(run="", loss=".4f", epochs=".3~g", N=",", seed=",")
    layers = [
        alt.Chart(charts.data(means)).mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color),
        alt.Chart(charts.data(points)).mark_point(filled=True, size=36).encode(x=x, y=y, color=color, tooltip=tooltip),
    ]
    own = "" if runs[0].bound != "none" else " (bounds no likelihood: its own axis)"
    zoom = f"epochs_{found.unique_tokens}_{name}"
    return charts.layered(layers, width=width, height=270, title=name + own, zoom=zoom)


def _best(name: str, table: Cells) -> list[dict]:
    columns = (table.epochs.tolist(), best_size(table.loss).tolist(), np.nanargmin(table.loss, axis=0).tolist())
    return [
        {"objective": name, "epochs": epochs, "loss": loss, "N": float(table.parameters[row])}
        for epochs, loss, row in zip(*columns, strict=True)
    ]


def _crossings(found: Repeated) -> list[dict]:
    """Those inside the epochs that were run; what of an interval lies outside is cut off there."""
    rows = []
    for overtaking in found.overtakings:
        it = overtaking.crossing
        if isinstance(it, Crossing) and 0 < it.epochs < np.inf:
            ends = {"low": max(it.low, it.first_epochs), "high": min(it.high, it.last_epochs)}
            rows.append({"objective": overtaking.other, "epochs": it.epochs, **ends})
    return rows


def _together(found: Repeated, losses: list[float | None], panels: int) -> Specification:
    names = [name for name, runs in found.runs.items() if runs[0].bound != "none"]
    rows = [row for name in names for row in _best(name, found.cells[name])]
    color = charts.color(names, found.runs)
    width, numbers = charts.width(panels, 135), [row["epochs"] for row in rows]
    x = charts.x("epochs", EPOCHS, numbers, charts.PLAIN, pixels=width)
    y = charts.y("loss", None, losses, log=True)
    best = alt.Chart(charts.data(rows)).encode(x=x, y=y, color=color)
    tooltip = charts.tips(objective="", epochs=".3~g", loss=".4f", N=",")
    points = best.mark_point(filled=False, size=70, strokeWidth=2, opacity=1)
    layers = [
        best.mark_line().encode(strokeWidth=charts.nested_widths(names)),
        points.encode(shape=charts.shape(names, found.runs), tooltip=tooltip),
    ]
    if crossed := _crossings(found):
        low = charts.x("low", EPOCHS, numbers, charts.PLAIN, pixels=width)
        marks = alt.Chart(charts.data(crossed))
        bands = marks.mark_rect(opacity=0.13).encode(x=low, x2="high:Q", color=color)
        tooltip = charts.tips(objective="", epochs=".3~g", low=".3~g", high=".3~g")
        rules = marks.mark_rule(strokeDash=[5, 4], strokeWidth=1.6).encode(x=x, color=color, tooltip=tooltip)
        layers += [bands, rules]
    zoom = f"epochs_{found.unique_tokens}_best"
    return charts.layered(layers, width=width, height=270, title="best size of each", zoom=zoom)


def _figure(found: Repeated) -> Figure:
    losses = {name: [run.loss for run in runs] for name, runs in found.runs.items()}
    shared = [loss for name, runs in found.runs.items() if runs[0].bound != "none" for loss in losses[name]]
    panels = len(losses) + bool(shared)
    drawn = [
        _sizes(found, name, shared if runs[0].bound != "none" else losses[name], index % 3 == 0, panels)
        for index, (name, runs) in enumerate(found.runs.items())
    ]
    drawn += [_together(found, shared, panels)] * bool(shared)
    unique = number(found.unique_tokens)
    return Figure(
        f"epochs_{found.unique_tokens}",
        f"Repeated data: {unique} unique tokens",
        "Validation loss after so many passes over the same tokens, by size (points: runs; lines: means over seeds), "
        "and for the best size of each objective. The dashed line is where one overtakes another for good, its band "
        "the 95% interval.",
        charts.panels(
            drawn, f"Loss against epochs of {unique} unique tokens", "dashed: crossing, with its 95% interval"
        ),
    )


def epochs(repeated: list[Repeated]) -> list[Figure]:
    """One figure a set of unique tokens."""
    return [_figure(found) for found in repeated]
