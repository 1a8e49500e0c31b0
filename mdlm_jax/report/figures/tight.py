"""Compute multipliers under several likelihoods, side by side."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from mdlm_jax.laws import Multiplier, Refusal
from mdlm_jax.report.analysis import Analysis
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure
from mdlm_jax.report.text.findings import under_likelihood
from mdlm_jax.report.tight import Under

ROW = 26  # pixels of a likelihood
LABEL = 170  # of the longest name


def multipliers_under(found: Sequence[Under], analysis: Analysis) -> Figure | None:
    """One panel for each comparison, one line for each likelihood; the same axis for all."""
    rows = [_row(one, one.multiplier) for one in found if not isinstance(one.multiplier, Refusal)]
    if not rows:
        return None
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    ends = [1.0, *(row[end] for row in rows for end in ("low", "high"))]
    shown = [_panel(analysis, [row for row in rows if row["pair"] == pair], ends, len(pairs)) for pair in pairs]
    title = "Compute multiplier under tighter likelihoods"
    return Figure(
        "likelihoods",
        title,
        "The same runs, their loss under other likelihoods than the training bound. Points and bars: geometric means "
        "over the common losses, with 95% intervals. Random orders give a tighter bound of the same likelihood; a "
        "decoder's likelihood is another model's, that of the sampler that decodes in this way.",
        charts.panels(shown, title, charts.flops("1 (dashed) is no difference; compute is FLOPs", analysis.counter), 2),
        [under_likelihood(one) for one in found],
    )


def _row(found: Under, value: Multiplier) -> dict[str, Any]:
    return {
        "pair": f"{found.other} / {found.reference}",
        "objective": found.other,
        "likelihood": found.likelihood,
        "value": float(value.mean),
        "low": float(value.mean_low),
        "high": float(value.mean_high),
    }


def _panel(analysis: Analysis, rows: list[dict[str, Any]], ends: list[float], panels: int):
    width = charts.width(min(panels, 2), LABEL + 40)
    names = [row["likelihood"] for row in rows]
    y = alt.Y("likelihood:N", title=None, sort=names, axis=alt.Axis(labelLimit=LABEL))
    low, value = (charts.x(field, "ratio of compute at equal loss", ends, charts.PLAIN) for field in ("low", "value"))
    color = charts.color(list(analysis.runs), analysis.runs, legend=False)
    tooltip = charts.tips(likelihood="", value=".3g", low=".3g", high=".3g")
    chart = alt.Chart(charts.data(rows))
    layers = [
        chart.mark_rule(strokeWidth=2).encode(x=low, x2="high:Q", y=y, color=color),
        chart.mark_point(filled=True, size=70, opacity=1).encode(x=value, y=y, color=color, tooltip=tooltip),
        alt.Chart(charts.data([{"value": 1.0}])).mark_rule(strokeDash=[4, 3], color="#666").encode(x=value),
    ]
    return charts.layered(layers, width=width, height=ROW * max(len(rows), 2), title=rows[0]["pair"])
