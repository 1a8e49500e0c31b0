"""Mean loss over seeds of objectives at one size and budget."""

import altair as alt

from mdlm_jax.laws import Refusal
from mdlm_jax.report.equal_compute import Cell
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification
from mdlm_jax.report.text import comparisons

ROW = 30  # pixels for each objective


def _panel(cell: Cell, names: list[str], kind: str, index: int, panels: int) -> Specification:
    runs = [
        {"objective": name, "loss": run.loss, "run": run.run_id, "seed": run.seed}
        for name in names
        for run in cell.runs[name]
    ]
    means = [
        {"objective": name, "mean": it.mean, "low": it.low, "high": it.high, "seeds": it.seeds}
        for name, it in cell.means.items()
        if name in names and not isinstance(it, Refusal)
    ]
    values = [run["loss"] for run in runs] + [row[end] for row in means for end in ("low", "high")]
    rows = alt.Y("objective:N", title=None, sort=names, axis=alt.Axis(grid=True))
    color = charts.color(names, cell.runs, legend=False)
    mean, low, loss = (charts.x(field, charts.NATS, values, log=False) for field in ("mean", "low", "loss"))
    tooltip = charts.tips(objective="", mean=".4f", low=".4f", high=".4f", seeds=",")
    chart, seeds = alt.Chart(charts.data(means)), alt.Chart(charts.data(runs))
    layers = [
        seeds.mark_point(size=50, opacity=0.55).encode(
            x=loss, y=rows, color=color, tooltip=charts.tips(run="", loss=".4f")
        ),
        chart.mark_rule(strokeWidth=2).encode(x=low, x2="high:Q", y=rows, color=color),
        chart.mark_point(filled=True, size=90, opacity=1, shape="diamond").encode(
            x=mean, y=rows, color=color, tooltip=tooltip
        ),
    ]
    heading = f"size {cell.size}, {cell.spent}" + kind
    width, height = charts.width(panels, 140), ROW * max(len(names), 2)
    return charts.layered(layers, width=width, height=height, title=heading, zoom=f"equal_{index}", along=["x"])


def equal(cells: list[Cell]) -> Figure | None:
    """One panel for each size and budget; losses that bound no likelihood have their own panels."""
    if not cells:
        return None
    shown = []
    for cell in cells:
        bounding = [name for name, runs in cell.runs.items() if runs[0].bound != "none"]
        others = [name for name in cell.runs if name not in bounding]
        shown += [(cell, names, kind) for names, kind in ((bounding, ""), (others, ", no likelihood bound")) if names]
    return Figure(
        "equal_compute",
        "The same size and budget",
        "Circles: the loss of each seed. Diamonds and bars: means and 95% intervals (Student's over seeds, with the "
        "Monte Carlo error). Losses that bound no likelihood have their own axes.",
        charts.panels(
            [_panel(*one, index, len(shown)) for index, one in enumerate(shown)],
            "Objectives at one size and budget",
            "circles: seeds; diamond and bar: mean and 95% interval",
            columns=2,
        ),
        [sentence for cell in cells for sentence in comparisons.differences(cell)],
    )
