"""One HTML page of a check of parametrizations."""

from mdlm_jax.exact.check_parametrization import FLAT, PROMISED, UNJUDGED, Row
from mdlm_jax.report.figures import render
from mdlm_jax.report.figures.charts import WIDTH
from mdlm_jax.report.figures.coordinates import growths
from mdlm_jax.report.table import TableCell, TableRow
from mdlm_jax.report.template import rendered

HEADINGS = ("parametrization", "grows", "activation", "by", "size", "update", "spread", "verdict")
METHODS = (
    "Each network is trained for a few steps on rows of a Markov chain. Root mean squares are over positions, "
    "coordinates, blocks and seeds, of the activations of the first batch before training and of their change.",
    f"An activation is flat if the largest value is at most {FLAT:g} times the smallest, for sizes and for updates. "
    f"The size of the {UNJUDGED} before training is not judged: it falls with the root of the width, as intended.",
)


def coordinates_page(objective: str, rows: list[Row]) -> str:
    """The HTML, which needs no other file.

    Args:
        objective: The objective's name.
        rows: What was measured.
    """
    figures = growths(objective, rows)
    return rendered(
        "values.html",
        title=f"Activations against width and depth: {objective}",
        found=found(rows),
        figures=figures,
        row_width=WIDTH,
        embedded={figure.name: render.embedded(render.specification(figure.chart)) for figure in figures},
        code=render.drawing_code(),
        headings=HEADINGS,
        values=[TableRow(False, None, _cells(row)) for row in rows],
        methods=METHODS,
    )


def found(rows: list[Row]) -> list[str]:
    """For each parametrization and growth, the activation that varies most."""
    sentences = []
    for name in PROMISED:
        for growth in ("width", "depth"):
            of_growth = [row for row in rows if (row.parametrization, row.growth) == (name, growth)]
            if not of_growth:
                continue
            most = max(of_growth, key=lambda row: row.spread)
            judged = {True: "flat", False: "not flat, as it should be", None: "nothing is promised"}[most.holds]
            sentences.append(
                f"{name}, {growth} times {most.times[-1]}: activations vary by at most a factor of "
                f"{most.spread:.2f} ({most.activation}); {judged}."
            )
    return sentences


def _cells(row: Row) -> list[TableCell]:
    verdict = {True: "flat", False: "fails", None: ""}[row.holds]
    lists = (" ".join(f"{value:.2f}" for value in values) for values in (row.sizes, row.updates))
    texts = [*row[:3], " ".join(map(str, row.times)), *lists]
    return [
        *(TableCell(text, text) for text in texts),
        TableCell(f"{row.spread:.2f}", row.spread),
        TableCell(verdict, verdict),
    ]
