"""N*, D* and L* of the interior minima against the budget, with their laws and how far noise moves these."""

import altair as alt
import numpy as np

from mdlm_jax.laws import Optima, Refusal, interval
from mdlm_jax.report.analysis import Analysis
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification
from mdlm_jax.report.text import findings

POINTS = 30  # of a drawn law
PANELS = {
    "parameters": ("N", "non-embedding parameters N*", charts.AMOUNT),
    "tokens": ("D", "training tokens D*", charts.AMOUNT),
    "loss": ("L", "loss L* (nats per token)", charts.PLAIN),
}


def _law(name: str, best: Optima, what: str) -> list[dict]:
    law = getattr(best, f"{what}_law")
    budgets = np.geomspace(law.low, law.high, POINTS)
    values = {"C": budgets, what: law.coefficient * budgets**law.exponent}
    if not isinstance(best.sample, Refusal):
        exponents = getattr(best.sample, f"{what}_exponent")[:, None]
        constants = getattr(best.sample, f"{what}_log_coefficient")[:, None]
        values["low"], values["high"] = np.exp(interval(constants + exponents * np.log(budgets)))
    columns = {key: column.tolist() for key, column in values.items()}
    return [{"objective": name, **dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)]


def _panel(analysis: Analysis, what: str, fitted: dict[str, Optima], legend: bool) -> Specification:
    (symbol, title, labels), width = PANELS[what], charts.width(3, 120)
    names = list(analysis.runs)
    minima = [
        {"objective": name, "C": c, what: value}
        for name, best in fitted.items()
        for c, value in zip(best.budgets.tolist(), getattr(best, what).tolist(), strict=True)
    ]
    laws = [row for name, best in fitted.items() for row in _law(name, best, what)]
    banded = [row for row in laws if "low" in row]
    heights = [row[what] for row in minima + laws] + [row[end] for row in banded for end in ("low", "high")]
    x = charts.x("C", charts.flops("budget C in FLOPs", analysis.counter), [row["C"] for row in minima], pixels=width)
    y, low = (charts.y(field, title, heights, labels, log=True) for field in (what, "low"))
    color = charts.color(names, names, legend)
    lines = alt.Chart(charts.data(laws)).mark_line(strokeDash=[6, 4]).encode(strokeWidth=charts.nested_widths(names))
    bands = alt.Chart(charts.data(banded)).mark_area(opacity=0.16).encode(x=x, y=low, y2="high:Q", color=color)
    points = alt.Chart(charts.data(minima)).mark_point(filled=False, size=70, strokeWidth=2, opacity=1)
    form = ".4f" if what == "loss" else ".4~s"
    points = points.encode(
        shape=charts.shape(names, names, legend), tooltip=charts.tips(**{"objective": "", "C": ".3~g", what: form})
    )
    layers = [bands] * bool(banded) + [lines.encode(x=x, y=y, color=color), points.encode(x=x, y=y, color=color)]
    return charts.layered(layers, width=width, height=270, title=f"{symbol}* against C", zoom=f"optimal_{what}")


def optimal_sizes(analysis: Analysis) -> Figure | None:
    """Three panels; the exponents with their intervals and counter are the notes."""
    fitted = {name: best for name, best in analysis.optima.items() if isinstance(best, Optima)}
    if not fitted:
        return None
    return Figure(
        "optimal_sizes",
        "Compute-optimal size, tokens and loss",
        "The minima of the isoFLOP curves against the budget, the power laws through them (dashed) and their 95% "
        "bootstrap bands. D* is the number of tokens that a run of size N* gets from the budget.",
        charts.panels(
            [_panel(analysis, what, fitted, what == "loss") for what in PANELS],
            "Compute-optimal size, tokens and loss",
            charts.flops(
                "points: interior isoFLOP minima; dashed: power laws with 95% bands; C in FLOPs", analysis.counter
            ),
        ),
        findings.laws(analysis),
    )
