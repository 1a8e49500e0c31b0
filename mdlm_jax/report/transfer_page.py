"""One HTML page of a learning rate that was tuned at one size, and of the curves of larger ones."""

from collections.abc import Sequence
from typing import Any

from mdlm_jax.report.figures import render
from mdlm_jax.report.figures.charts import WIDTH
from mdlm_jax.report.figures.transfer import rate_curves
from mdlm_jax.report.table import TableCell, TableRow
from mdlm_jax.report.template import rendered

HEADINGS = ("size", "parameters", "best rate", "from", "to", "over the base", "from", "to", "loss", "verdict")


def transfer_page(curves: Sequence[dict[str, Any]], parametrization: str, methods: Sequence[str]) -> str:
    """The HTML, which needs no other file.

    Args:
        curves: As `sweeps.transfer.transfer_as_json` gives them, the base first.
        parametrization: Its name.
        methods: Sentences on what was trained.
    """
    title = f"Learning rates by size: {parametrization}"
    figure = rate_curves(curves, title)
    return rendered(
        "values.html",
        title=title,
        found=[_sentence(curve) for curve in curves],
        figures=[figure],
        row_width=WIDTH,
        embedded={figure.name: render.embedded(render.specification(figure.chart))},
        code=render.drawing_code(),
        headings=HEADINGS,
        values=[TableRow(False, None, _cells(curve)) for curve in curves],
        methods=methods,
    )


def _sentence(curve: dict[str, Any]) -> str:
    best, moved = curve["best"], curve["moved"]
    known = f"[{best['low']:.3g}, {best['high']:.3g}]" if best["interior"] else "or beyond"
    sentence = f"{curve['size']}: best rate {best['rate']:.3g} {known}"
    if moved is None:
        return f"{sentence}, the base{'' if best['interior'] else ': at an end of the rates'}."
    return (
        f"{sentence}, {moved['factor']:.2f} [{moved['low']:.2f}, {moved['high']:.2f}] of the base: {curve['verdict']}."
    )


def _cells(curve: dict[str, Any]) -> list[TableCell]:
    best, moved = curve["best"], curve["moved"] or {"factor": 1.0, "low": 1.0, "high": 1.0}
    numbers = [best["rate"], best["low"], best["high"], moved["factor"], moved["low"], moved["high"], best["loss"]]
    return [
        TableCell(curve["size"], curve["size"]),
        TableCell(f"{curve['parameters']:,}", curve["parameters"]),
        *(TableCell(f"{value:.4g}", value) for value in numbers),
        TableCell(curve["verdict"], curve["verdict"]),
    ]
