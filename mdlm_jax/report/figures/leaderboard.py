"""Scores of models on tasks, and their paired differences, with intervals."""

import altair as alt

from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure
from mdlm_jax.report.leaderboard import Board
from mdlm_jax.report.paired import Interval
from mdlm_jax.style import PALETTE

ROW = 26  # pixels of a model
LABEL = 210  # of the longest name
COLUMNS = 2  # panels in a row


def scores(board: Board) -> Figure:
    """One panel a metric, one line a model."""
    shown = [
        _panel(board, number, {label: cells[number] for label, cells in board.scores.items()})
        for number in range(len(board.columns))
    ]
    return Figure(
        "scores",
        "Scores",
        "Points and bars: metrics and their 95% intervals over items.",
        charts.panels(shown, "Scores", "points and bars: metrics and 95% intervals over items", COLUMNS),
    )


def differences(board: Board) -> Figure:
    """One panel a metric, one line a pair of models."""
    pairs = {f"{one} − {other}": cells for (one, other), cells in board.differences.items()}
    shown = [
        _panel(board, number, {name: cells[number] for name, cells in pairs.items()}, zero=True)
        for number in range(len(board.columns))
    ]
    return Figure(
        "differences",
        "Paired differences",
        "Points and bars: differences on the same items and their 95% intervals. Line: no difference.",
        charts.panels(
            shown, "Paired differences", "points and bars: differences on the same items, 95% intervals", COLUMNS
        ),
    )


def _panel(board: Board, number: int, cells: dict[str, Interval], zero: bool = False):
    """The column of a number; `zero` draws the line of no difference."""
    column = board.columns[number]
    rows = [
        {"name": label, "value": cell.value, "low": cell.value - half, "high": cell.value + half}
        for label, cell in cells.items()
        for half in [cell.half_width or 0.0]
    ]
    ends = [row[end] for row in rows for end in ("low", "high")] + [0.0] * zero
    chart, color = alt.Chart(charts.data(rows)), alt.value(PALETTE[0])
    names = alt.Y("name:N", title=None, sort=list(cells), axis=alt.Axis(labelLimit=LABEL))
    low, value = (charts.x(field, column.metric, ends, log=False) for field in ("low", "value"))
    tooltip = charts.tips(name="", value=".4f", low=".4f", high=".4f")
    layers = [
        chart.mark_rule(strokeWidth=2).encode(x=low, x2="high:Q", y=names, color=color),
        chart.mark_point(filled=True, size=70, opacity=1).encode(x=value, y=names, color=color, tooltip=tooltip),
    ]
    if zero:
        line = alt.Chart(charts.data([{"value": 0.0}])).mark_rule(strokeDash=[4, 3], color="#666")
        layers.append(line.encode(x=value))
    return charts.layered(
        layers,
        width=charts.width(COLUMNS, LABEL + 40),
        height=ROW * max(len(cells), 2),
        title=f"{column.task} ({column.items} items)",
        zoom=f"{'difference' if zero else 'score'}_{number}",
        along=["x"],
    )
