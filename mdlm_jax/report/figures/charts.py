"""The parts that all figures share: axes, colours, panels, tooltips and zooming.

A figure is one Vega-Lite specification, which the page draws and `render.py` turns into PNG and SVG.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import altair as alt

from mdlm_jax.costs.counters import COUNTER_LABELS
from mdlm_jax.style import PALETTE, SHAPES, palette_index, shape_index

NATS = "validation loss (nats per token)"
TEXT, GRID, REFUSED = "#1a1a1a", "#dddddd", "#c00000"
DIGITS = 6  # significant, of every drawn number
# Vega expressions that write a number: "2e9" for compute, "12k" and "3B" for sizes and tokens
COMPUTE = "replace(format(datum.value, '.3~e'), 'e+', 'e')"
AMOUNT = "replace(format(datum.value, '.3~s'), 'G', 'B')"
PLAIN = "format(datum.value, '.3~r')"
LEADING = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"  # digit of a tick
STAR = "M0,-1L.2245,-.309L.951,-.309L.363,.118L.588,.809L0,.382L-.588,.809L-.363,.118L-.951,-.309L-.2245,-.309Z"
CROSS = "M-1,-1L1,1M-1,1L1,-1"
SPARSE_X, SPARSE_Y = ({"labelOverlap": "greedy", "labelSeparation": pixels} for pixels in (8, 3))
WIDTH = 1000  # pixels of all panels of a row
LABEL = 42  # pixels that a label takes along x
MULTIPLES = ((1, 2, 5), (1, 3), (1,))  # of a decade's ticks, the densest first


Specification = dict[str, Any]  # Vega-Lite, as JSON


class Figure(NamedTuple):
    """One figure of the page."""

    name: str  # of its files
    title: str
    caption: str
    chart: Specification  # from `panels`
    notes: list[str] = []  # sentences below it


def flops(what: str, counter: str) -> str:
    """An axis title, for example `training FLOPs (counted exactly)`."""
    return f"{what} ({COUNTER_LABELS[counter]})"


def data(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rows of a chart, with no more digits than can be seen.

    As one text, which Vega reads: Altair copies every chart that goes into another, rows and all, and checks each value
    against its schema, which was more than half of the time of a report.
    """
    short = lambda value: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value  # noqa: E731
    listed = [{key: short(value) for key, value in row.items()} for row in rows]
    return {"values": json.dumps(listed, separators=(",", ":"), allow_nan=False), "format": {"type": "json"}}


def _log_axis(values: Sequence[float | int], labels: str, along_x: bool, pixels: float | int | None = None) -> alt.Axis:
    """Ticks at some multiples of each decade; at all of Vega's ticks on an axis of less than a decade.

    Along x, where labels are wide, `pixels` is the length of the axis; its ticks are as dense as their labels allow.
    """
    span = max(values) / min(values)
    if span <= 8:
        shown = "true"
    elif pixels is None:
        shown = f"indexof({[1] if span > 3000 else [1, 2, 5]}, {LEADING}) >= 0"
    else:
        decade = pixels / math.log10(span)
        fitting = [some for some in MULTIPLES if decade * min(_gaps(some)) >= LABEL]
        shown = f"indexof({list(fitting[0] if fitting else MULTIPLES[-1])}, {LEADING}) >= 0"
    faint = {"condition": {"test": shown, "value": 1}, "value": 0}
    text = f"{shown} ? {labels} : ''"
    return alt.Axis(
        labelExpr=text, tickCount=10, gridOpacity=faint, tickOpacity=faint, **(SPARSE_X if along_x else SPARSE_Y)
    )


def _gaps(multiples: Sequence[int]) -> list[float]:
    """Distances between neighbouring ticks, in decades."""
    return [math.log10(after / before) for before, after in zip(multiples, (*multiples[1:], 10), strict=True)]


def _scale(values: Sequence[float | int], log: bool, room: float, reverse: bool) -> alt.Scale:
    low, high = min(values), max(values)
    if log:
        margin = max((high / low) ** 0.05, 1.03) if high > low else 1.5
        domain = [low / margin, high * margin ** (1 + room)]
    else:
        margin = max(0.05 * (high - low), 0.002 * abs(high)) or 1.0
        domain = [low - margin, high + margin * (1 + room)]
    return alt.Scale(type="log" if log else "linear", nice=False, reverse=reverse, domain=domain)


def x(
    field: str,
    title: str | None,
    values: Iterable[float | int],
    labels: str = COMPUTE,
    log: bool = True,
    room: float = 0.0,
    reverse: bool = False,
    pixels: float | int | None = None,
) -> alt.X:
    """A quantity along x.

    Args:
        field: Name in the rows of the chart.
        title: Title of the axis.
        values: Everything that is drawn along the axis. If any of them is 0 or below, the axis is linear.
        labels: Vega expression that writes a number on a logarithmic axis.
        log: Whether the axis is logarithmic.
        room: Extra room at the end for text, in margins.
        reverse: Whether the largest value is at the left.
        pixels: Width of the panel, which decides how many labels a logarithmic axis has.
    """
    values = [float(value) for value in values]
    log = log and min(values) > 0
    axis = _log_axis(values, labels, True, pixels) if log else alt.Axis(tickCount=5, **SPARSE_X)
    return alt.X(f"{field}:Q", title=title, scale=_scale(values, log, room, reverse), axis=axis)


def y(field: str, title: str | None, values: Iterable[float | int], labels: str = PLAIN, log: bool = False) -> alt.Y:
    """A quantity along y; the arguments are those of `x`."""
    values = [float(value) for value in values]
    log = log and min(values) > 0
    axis = _log_axis(values, labels, False) if log else alt.Axis(tickCount=6, **SPARSE_Y)
    return alt.Y(f"{field}:Q", title=title, scale=_scale(values, log, 0.0, reverse=False), axis=axis)


def color(names: Sequence[str], among: Iterable[str], legend: bool = True) -> alt.Color:
    """The colour of the field `objective`: `names` are its values, `among` are all objectives of the figure."""
    colors = alt.Scale(domain=list(names), range=[PALETTE[palette_index(name, among)] for name in names])
    shown = alt.Legend(symbolOpacity=1) if legend else None
    return alt.Color("objective:N", scale=colors, title="objective", legend=shown)


def shape(names: Sequence[str], among: Iterable[str], legend: bool = True) -> alt.Shape:
    """The shape of the field `objective`, in one legend with the colour."""
    shapes = alt.Scale(domain=list(names), range=[SHAPES[shape_index(name, among)] for name in names])
    shown = alt.Legend(symbolOpacity=1) if legend else None
    return alt.Shape("objective:N", scale=shapes, title="objective", legend=shown)


def nested_widths(names: Sequence[str]) -> alt.StrokeWidth:
    """Lines of the field `objective` that get thinner, so that a later one does not hide an earlier one."""
    widths = [3.0 - 1.4 * index / max(len(names) - 1, 1) for index in range(len(names))]
    return alt.StrokeWidth(
        "objective:O", sort=list(names), scale=alt.Scale(domain=list(names), range=widths), legend=None
    )


def shades(field: str, title: str | None = None, legend: alt.Legend | None = None, **scale) -> alt.Color:
    """An ordered quantity as shades of one scheme that stays readable on white."""
    scheme = alt.SchemeParams(name="viridis", extent=[0.0, 0.85])
    return alt.Color(field, title=title, legend=legend, scale=alt.Scale(scheme=scheme, **scale))


def tips(**formats: str) -> list[alt.Tooltip]:
    """What is shown under the pointer: fields and their formats, empty for text. _ stands for a space."""
    return [
        alt.Tooltip(f"{field}:Q", format=form, title=field.replace("_", " ")) if form else alt.Tooltip(f"{field}:N")
        for field, form in formats.items()
    ]


def layered(
    layers: Sequence[alt.Chart],
    *,
    width: int,
    height: int,
    title: str | dict[str, str] = "",
    zoom: str = "",
    along: Sequence[Any] = ("x", "y"),
) -> Specification:
    """Charts over each other, as a panel of `panels`.

    JSON from here on: Altair copies all of a chart whenever it becomes part of another or gets a property, which was a
    third of the time of a report.

    Args:
        layers: The charts; the first has both axes.
        width: Pixels of the panel.
        height: Pixels of the panel.
        title: Heading of the panel.
        zoom: Name of the panel, once in a figure: drag pans, shift and wheel zoom, a double click resets. The wheel
            alone scrolls the page, which a chart under the pointer must not stop. "": nothing does.
        along: The axes that move.
    """
    first, *others = layers
    if zoom:
        name = re.sub(r"\W", "_", zoom)  # a variable in Vega's expressions
        wheel = "wheel![event.shiftKey]"
        first = first.add_params(
            alt.selection_interval(name=f"{name}_zoom", bind="scales", zoom=wheel, encodings=list(along))
        )
    datasets: dict[str, Any] = {}
    context = {"top_level": False, "datasets": datasets}
    drawn = [layer.to_dict(validate=False, context=context) for layer in (first, *others)]
    heading = {"title": title} if title else {}
    return {"layer": drawn, "width": width, "height": height, **heading, "datasets": datasets}


def panels(charts: Sequence[Specification], title: str, subtitle: str | list[str], columns: int = 3) -> Specification:
    """Panels of `layered` beside each other under one heading, each with its own scales."""
    own = dict.fromkeys(("x", "y", "color", "shape", "strokeDash"), "independent")
    return {
        "concat": [{key: part for key, part in chart.items() if key != "datasets"} for chart in charts],
        "columns": columns,
        "spacing": 28,
        "resolve": {"scale": own},
        "title": {"text": title, "subtitle": subtitle},
        "datasets": {name: rows for chart in charts for name, rows in chart["datasets"].items()},
    }


def width(num_panels: int, margin: int = 60) -> int:
    """Of each of so many panels in a row, less `margin` for its axis and legend."""
    return WIDTH // min(max(num_panels, 1), 3) - margin
