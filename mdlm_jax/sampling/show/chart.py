"""A comparison of samplers as JSON, as a table for a terminal and as a picture."""

import io
import itertools
import json
import math
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from rich.table import Table

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.quality import Estimate, Quality
from mdlm_jax.files import write_whole
from mdlm_jax.sampling.comparison import Measured
from mdlm_jax.style import MARKERS, PALETTE, number

AXES = {"evaluations": "network evaluations", "seconds": "seconds"}  # of the two panels
DISTANCES, ANGLES = (13, 19, 26, 34, 44, 56), (0, 180, 90, 270, 45, 135, 225, 315)  # of a number from its point


def write_comparison(rows: Sequence[Measured], folder: pathlib.Path) -> None:
    """compare.json and compare.png in `folder`. NaN and infinity are null. Raises UserError where it cannot write."""
    picture = io.BytesIO()
    draw_comparison(rows).savefig(picture, format="png", dpi=150)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(
            folder / "compare.json", json.dumps([_plain(row) for row in rows], indent=1, allow_nan=False) + "\n"
        )
        write_whole(folder / "compare.png", picture.getvalue())
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); accepted: a folder") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Quality):
        return {name: _plain(field) for name, field in value._asdict().items()} | {"perplexity": value.perplexity}
    if isinstance(value, Measured | Estimate):
        return {name: _plain(field) for name, field in value._asdict().items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: Sequence[Measured]) -> Table:
    """The rows for a terminal; errors are one standard error over rows. What is not known for any row has no column."""
    columns = {
        "plan": lambda row: row.label,
        "temperature": lambda row: f"{row.temperature:g}",
        "nucleus p": lambda row: f"{1 if row.top_p is None else row.top_p:g}",
        "dtype": lambda row: row.dtype,
        "evaluations": lambda row: f"{row.evaluations:.4g}",
        "s per row": lambda row: f"{row.seconds:.3g}",
        "tokens per s": lambda row: number(row.tokens_per_second),
        "first call, s": lambda row: f"{row.first_call_seconds:.1f}",
        "entropy": lambda row: _with_error(row.quality.entropy),
        "distinct-2": lambda row: _with_error(row.quality.distinct_2),
        "nats by judge": lambda row: _with_error(row.quality.judge_nats),
        "perplexity": lambda row: "" if row.quality.perplexity is None else f"{row.quality.perplexity:.4g}",
        "bits per byte": lambda row: _with_error(row.quality.judge_bits_per_byte),
        "nats by source": lambda row: _with_error(row.quality.source_nats),
        "its own text": lambda row: "" if row.quality.source_entropy is None else f"{row.quality.source_entropy:.3f}",
        "impossible tokens": lambda row: str(row.quality.impossible or ""),
        "divergence": lambda row: _with_error(row.quality.divergence),
    }
    cells = {"": [str(position) for position in range(1, len(rows) + 1)]}
    cells |= {title: [cell(row) for row in rows] for title, cell in columns.items()}
    cells = {title: column for title, column in cells.items() if any(column)}
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for title in cells:
        shown.add_column(title, justify="left" if title in ("plan", "dtype") else "right")
    for row in zip(*cells.values(), strict=True):
        shown.add_row(*row)
    return shown


def _with_error(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    error = "" if math.isnan(estimate.standard_error) else f" ± {estimate.standard_error:.3f}"
    return "∞" if math.isinf(estimate.value) else f"{estimate.value:.3f}{error}"


def draw_comparison(rows: Sequence[Measured]) -> Figure:
    """Quality against evaluations and against seconds; numbers name the rows, bars are one standard error over rows.

    The quality is nats per token under the source, else under the judge, else the entropy of a row's tokens.
    """
    found = [row.quality for row in rows]
    values: list[Any]
    words, values = "entropy of a row's tokens (nats)", [quality.entropy for quality in found]
    own = found[0].source_entropy
    if own is not None:
        words = "nats per token under the source\n(dashed: of its own text, which is the aim)"
        values = [quality.source_nats for quality in found]
    elif found[0].judge_nats:
        words = "nats per token under the judge\n(lower is better only at equal entropy)"
        values = [quality.judge_nats for quality in found]
    looks = [
        {"color": color, "marker": marker, "markersize": 7}
        for _, (marker, color) in zip(rows, itertools.cycle(itertools.product(MARKERS, PALETTE)), strict=False)
    ]
    names = [
        textwrap.fill(_name(row, position), 135, subsequent_indent="     ") for position, row in enumerate(rows, 1)
    ]
    figure = Figure(figsize=(9.6, 4.0 + 0.17 * sum(name.count("\n") + 1 for name in names)), layout="constrained")
    handles = [Line2D([], [], label=name, linestyle="none", **look) for name, look in zip(names, looks, strict=True)]
    figure.legend(handles=handles, loc="outside lower left", frameon=False, fontsize=8, handletextpad=0.2)
    axes = figure.subplots(1, 2, sharey=True)
    axes[0].set_ylabel(words)
    for axis, field in zip(axes, AXES, strict=True):
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(y=0.15)
        cost = [getattr(row, field) for row in rows]
        low, high = min(cost), max(cost)
        room = max((high / low) ** 0.12, 1.25)
        axis.set(xscale="log", xlim=(low / room, high * room), xlabel=f"{AXES[field]} per row")
        if own is not None:
            axis.axhline(own, color="#555555", linestyle="--", linewidth=1.0)
        for x, (value, error), look in zip(cost, values, looks, strict=True):
            if math.isfinite(value):
                axis.errorbar(x, value, np.nan_to_num(error), clip_on=False, **look)
            else:  # an arrow at the upper edge
                axis.plot(x, 1.0, clip_on=False, transform=axis.get_xaxis_transform(), **look | {"marker": "^"})
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 4 * low else MaxNLocator(5))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    figure.draw_without_rendering()  # the positions are known after that
    for axis, field in zip(axes, AXES, strict=True):
        _number_points(axis, [getattr(row, field) for row in rows], values)
    return figure


def _number_points(axis: Axes, costs: list[float], values: list[Estimate]) -> None:
    """Numbers the points. Each label is at the nearest free position, with a line to its point if that is far."""
    unit = axis.figure.dpi / 72  # pixels of a typographic point
    edge = axis.get_ylim()[1]
    heights = np.array([value if math.isfinite(value) else edge for value, _ in values])
    reach = np.nan_to_num([error for _, error in values])
    centers, lows, highs = (
        axis.transData.transform(np.stack([costs, heights + side * reach], axis=1)) for side in (0, -1, 1)
    )
    inside = Bbox(axis.bbox.get_points() + [[0, 0], [0, 12 * unit]])  # an arrow's number may stand above the edge
    taken = [Bbox([low, high]).padded(5 * unit) for low, high in zip(lows, highs, strict=True)]
    for position, center in enumerate(centers, 1):
        half_size = np.array([3 + 3 * len(str(position)), 6])
        for distance, angle in itertools.product(DISTANCES, np.radians(ANGLES)):
            away = (distance + half_size[0] - 6) * np.array([math.cos(angle), math.sin(angle)])
            box = Bbox(center + unit * (away + [-half_size, half_size]))
            if all(inside.contains(*corner) for corner in box.get_points()) and not box.count_overlaps(taken):
                break
        taken.append(box)
        line = {"arrowstyle": "-", "color": "#555555", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
        how = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "center"}
        how["arrowprops"] = line if distance > DISTANCES[0] else None
        axis.annotate(str(position), axis.transAxes.inverted().transform(center), away, fontsize=9, **how)


def _name(row: Measured, position: int) -> str:
    nucleus, quality = 1 if row.top_p is None else row.top_p, row.quality
    sampled = f"temperature {row.temperature:g}, nucleus p {nucleus:g}, {row.dtype}"
    never = f", {quality.impossible} tokens that the source never says: off the scale" if quality.impossible else ""
    return f"{position}   {row.label}   ({sampled}; entropy {_with_error(quality.entropy)}{never})"
