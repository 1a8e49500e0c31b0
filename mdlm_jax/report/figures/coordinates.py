"""Sizes and updates of activations against width and depth, for each parametrization."""

import altair as alt

from mdlm_jax.exact.check_parametrization import FLAT, PROMISED, Row
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure
from mdlm_jax.style import PALETTE

HEIGHT = 170
LEGEND = 50  # pixels right of a panel, on average
WIDTHS = [3.5, 2.4, 1.3]  # of lines: a later one does not hide an earlier one


def growths(objective: str, rows: list[Row]) -> list[Figure]:
    """One figure for the width and one for the depth, with one panel for each activation."""
    return [_growth(objective, [row for row in rows if row.growth == growth], growth) for growth in ("width", "depth")]


def _growth(objective: str, rows: list[Row], growth: str) -> Figure:
    names = list(dict.fromkeys(row.activation for row in rows))
    of_names = {name: [row for row in rows if row.activation == name] for name in names}
    shown = [_panel(of_name, growth, name, legend=name == names[-1]) for name, of_name in of_names.items()]
    caption = (
        f"Root mean squares over those of the smallest network, as its {growth} grows: of the activation before "
        f"training (dashed) and of its change over the steps (solid). Grey: flat, within a factor of {FLAT:g}."
    )
    title = f"{objective}: activations against {growth}"
    return Figure(f"against_{growth}", title, caption, charts.panels(shown, title, "solid: update; dashed: size"))


def _panel(rows: list[Row], growth: str, activation: str, legend: bool):
    points = [
        {"parametrization": row.parametrization, "times": times, "value": value, "of": of}
        for row in rows
        for of, values in (("update", row.updates), ("size", row.sizes))
        for times, value in zip(row.times, values, strict=True)
    ]
    values = [point["value"] for point in points] + [1 / FLAT, FLAT]
    ends = [point["times"] for point in points]
    low, high = min(ends), max(ends)
    x, left = (charts.x(field, f"{growth} over the smallest", ends, charts.PLAIN) for field in ("times", "low"))
    y, bottom = (charts.y(field, "over the smallest", values, log=True) for field in ("value", "bottom"))
    among = list(dict.fromkeys(row.parametrization for row in rows))
    indices = [list(PROMISED).index(name) for name in among]
    colors = alt.Scale(domain=among, range=[PALETTE[index] for index in indices])
    widths = alt.Scale(domain=among, range=[WIDTHS[index] for index in indices])
    dashes = alt.Scale(domain=["update", "size"], range=[[1, 0], [5, 4]])
    band = alt.Chart(charts.data([{"low": low, "high": high, "bottom": 1 / FLAT, "top": FLAT}]))
    band = band.mark_rect(color="#888", opacity=0.18).encode(x=left, x2="high:Q", y=bottom, y2="top:Q")
    lines = alt.Chart(charts.data(points)).mark_line(point=alt.OverlayMarkDef(size=30))
    lines = lines.encode(
        x=x.axis(values=sorted(set(ends)), format="d"),
        y=y,
        color=alt.Color("parametrization:N", scale=colors, legend=alt.Legend() if legend else None),
        strokeWidth=alt.StrokeWidth("parametrization:N", scale=widths, legend=None),
        strokeDash=alt.StrokeDash("of:N", scale=dashes, legend=None),
        detail="of:N",
        tooltip=charts.tips(parametrization="", of="", times=".3~g", value=".3f"),
    )
    width = charts.width(3, LEGEND + 60)
    return charts.layered([lines, band], width=width, height=HEIGHT, title=activation, zoom=f"{growth}_{activation}")
