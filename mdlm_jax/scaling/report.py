"""One HTML file that opens offline, and each of its figures as PNG and SVG beside it."""

import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.scaling import figures, words
from mdlm_jax.scaling.analysis import Analysis, analyse
from mdlm_jax.scaling.fit import Optima
from mdlm_jax.scaling.result import Result

REPORT_NAME = "report.html"
POINTS = 150  # of a learning curve: what a panel can show


def learning_curve(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray] | None:
    """FLOPs and training loss of a metrics.jsonl, averaged within bins of log FLOPs; None where it has no such lines.

    Lines that lack either key, and a last line cut short, are passed over.
    """
    rows = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get("flops") and row.get("loss") is not None:
            rows.append((row["flops"], row["loss"]))
    if len(rows) < 2:
        return None
    flops, loss = np.array(rows, float).T
    bins = np.floor(POINTS * np.log(flops / flops.min()) / np.log(flops.max() / flops.min() + 1e-9)).astype(int)
    counts = np.bincount(bins)
    filled = counts > 0
    return tuple(np.bincount(bins, values)[filled] / counts[filled] for values in (flops, loss))


def _draw(analysis: Analysis, metrics: Mapping[str, str | os.PathLike]) -> list[tuple[str, str, Figure]]:
    """Name, caption and figure, in the order of the page."""
    drawn = []
    if not analysis.runs:
        return drawn
    if analysis.comparisons:
        drawn.append(
            (
                "compute_multiplier",
                "Compute needed for the same loss, with its 95% interval. The control compares two objectives of one "
                "expectation: it must cover 1.",
                figures.multipliers(analysis),
            )
        )
    drawn.append(
        (
            "loss_against_flops",
            "Every run (faint), the compute-efficient frontier of each objective (solid: no run as cheap is better) "
            "and the power law through its isoFLOP minima (dashed).",
            figures.loss_against_flops(analysis),
        )
    )
    drawn.append(
        (
            "isoflops",
            "Loss against size at equal compute, one parabola a budget. A star is a minimum inside the grid of sizes; "
            "a red cross is the best run of a budget whose minimum is not, which no law uses.",
            figures.isoflops(analysis),
        )
    )
    if any(isinstance(best, Optima) for best in analysis.optima.values()):
        drawn.append(
            (
                "optimal_sizes",
                "Compute-optimal parameters and tokens against the budget. The exponents belong to the counter named "
                "on the axis.",
                figures.optimal_sizes(analysis),
            )
        )
    curves = {run_id: learning_curve(path) for run_id, path in metrics.items() if pathlib.Path(path).exists()}
    curves = {run_id: curve for run_id, curve in curves.items() if curve is not None}
    if curves:
        caption = "Training loss against the FLOPs spent so far, every run, averaged within narrow bins."
        drawn.append(("learning_curves", caption, figures.learning_curves(analysis, curves)))
    return drawn


def _render(figure: Figure, format: str) -> bytes:
    buffer = io.BytesIO()
    # No date and fixed identifiers: the same results give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "mdlm-jax"}):
        figure.savefig(buffer, format=format, dpi=150, metadata={"Date": None} if format == "svg" else None)
    return buffer.getvalue()


def write_report(
    results: Sequence[Result],
    folder: str | os.PathLike,
    title: str,
    problems: Sequence[str] = (),
    metrics: Mapping[str, str | os.PathLike] | None = None,
) -> pathlib.Path:
    """Writes report.html into `folder`, with a PNG and an SVG of each figure, and returns its path.

    `problems` are lines about runs without a readable result; `metrics` are paths of metrics.jsonl by run id, for the
    learning curves. Raises UserError where there is nothing to report.
    """
    if not results and not problems:
        raise UserError(f"{folder}: no results to report; run the sweep first")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    analysis = analyse(results, problems)
    shown = []
    for name, caption, figure in _draw(analysis, metrics or {}):
        svg = _render(figure, "svg")
        write_whole(folder / f"{name}.svg", svg)
        write_whole(folder / f"{name}.png", _render(figure, "png"))
        inline = svg.decode()
        shown.append({"name": name, "caption": caption, "svg": Markup(inline[inline.index("<svg") :])})
    template = pathlib.Path(__file__).with_name(REPORT_NAME).read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    html = page.render(
        title=title,
        supported=words.supported(analysis),
        not_supported=words.not_supported(analysis),
        figures=shown,
        runs=[run for mine in analysis.runs.values() for run in mine],
        counter=analysis.counter,
        failed=analysis.failed,
        left_out=analysis.left_out,
        methods=words.methods(analysis),
        number=figures.number,
    )
    path = folder / REPORT_NAME
    write_whole(path, html.encode())
    return path
