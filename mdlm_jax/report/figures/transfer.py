"""Losses by learning rate, one curve for each size."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure
from mdlm_jax.style import PALETTE

CLIPPED = 1.0  # nats above the lowest loss of any size that are drawn


def rate_curves(curves: Sequence[dict[str, Any]], title: str) -> Figure:
    """The mean over seeds with its 95% interval, and the best rate of each size.

    Args:
        curves: For each size `size`, `rates`, `losses` by rate and seed, and `best`, a `BestRate` as a dict.
        title: Of the figure.
    """
    sizes = [curve["size"] for curve in curves]
    means = [
        {"size": curve["size"], "rate": rate, "loss": float(np.mean(some))}
        | {"half": float(1.96 * curve["best"]["noise"] / len(some) ** 0.5)}
        for curve in curves
        for rate, some in zip(curve["rates"], curve["losses"], strict=True)
        if some
    ]
    lowest = min(row["loss"] for row in means)
    means = [row | {"low": row["loss"] - row["half"], "high": row["loss"] + row["half"]} for row in means]
    means = [row for row in means if row["loss"] < lowest + CLIPPED]
    bests = [
        {"size": curve["size"], "rate": best["rate"], "from": best["low"], "to": best["high"], "loss": best["loss"]}
        for curve in curves
        for best in [curve["best"]]
    ]
    rates = [row["rate"] for row in means] + [row[end] for row in bests for end in ("from", "to")]
    losses = [row[end] for row in means for end in ("low", "high")]
    x, left = (charts.x(field, "learning rate", rates, charts.PLAIN) for field in ("rate", "from"))
    y, bottom = (charts.y(field, charts.NATS, losses) for field in ("loss", "low"))
    color = alt.Color("size:N", scale=alt.Scale(domain=sizes, range=PALETTE[: len(sizes)]), sort=sizes)
    of_means, of_bests = alt.Chart(charts.data(means)), alt.Chart(charts.data(bests))
    lines = of_means.mark_line(point=alt.OverlayMarkDef(size=30), strokeWidth=1.5).encode(x=x, y=y, color=color)
    bars = of_means.mark_rule(strokeWidth=1.5).encode(x=x, y=bottom, y2="high:Q", color=color)
    spans = of_bests.mark_rule(strokeWidth=3).encode(x=left, x2="to:Q", y=y, color=color)
    marks = of_bests.mark_point(shape="diamond", filled=True, size=120, opacity=1).encode(x=x, y=y, color=color)
    layered = charts.layered([lines, bars, spans, marks], width=charts.WIDTH - 330, height=320, zoom="rates")
    return Figure(
        "rates",
        title,
        "Means over seeds with 95% intervals. A diamond is the minimum of the parabola through the lowest loss and its "
        "neighbours; the bar is its 95% interval. Where the parametrization transfers the rate, the diamonds are "
        "above one another.",
        charts.panels([layered], title, "diamonds: best rates"),
    )
