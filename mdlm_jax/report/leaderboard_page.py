"""One HTML page of models x tasks, with intervals and paired differences."""

from mdlm_jax.report.figures import render
from mdlm_jax.report.figures.charts import WIDTH
from mdlm_jax.report.figures.leaderboard import differences, scores
from mdlm_jax.report.leaderboard import Board
from mdlm_jax.report.paired import Interval
from mdlm_jax.report.table import TableCell, TableRow
from mdlm_jax.report.template import rendered

SETTINGS = ("model", "step", "objective", "estimator", "bound", "draws", "guidance", "chat", "system", "shots_as_turns")
METHODS = (
    "Every interval has a level of 95%, by Student's distribution, with the exact standard error of a mean over items: "
    "the items are taken as independent draws. A metric per word or byte is a ratio of two sums over items, whose "
    "error is linearised. Of perplexities the logarithm is shown, in nats.",
    "A paired difference compares two models on the same items: its standard error is that of the mean of the items' "
    "differences, so what is hard for both models cancels. Each interval stands alone: of many differences between "
    "equal models, one in twenty excludes 0.",
    "Where all items agree there is no interval. Likelihoods that are bounds have noise of their own, which is part of "
    "the spread over items; bounds of different estimators do not compare.",
)


def leaderboard_page(board: Board) -> str:
    """The HTML of a leaderboard. It needs no other file.

    Args:
        board: The models.
    """
    figures = [scores(board), *([differences(board)] if board.differences else [])]
    headings = [f"{column.task} {column.metric}" for column in board.columns]
    used = [name for name in SETTINGS if any(model.result.get(name) not in (None, False) for model in board.models)]
    return rendered(
        "leaderboard.html",
        title="Leaderboard",
        found=found(board),
        figures=figures,
        row_width=WIDTH,
        embedded={figure.name: render.embedded(render.specification(figure.chart)) for figure in figures},
        code=render.drawing_code(),
        headings=["model", *headings],
        scores=[_row([label], cells) for label, cells in board.scores.items()],
        headings_of_pairs=["model", "minus", *headings],
        differences=[_row(list(pair), cells, signed=True) for pair, cells in board.differences.items()],
        headings_of_models=["folder", *used],
        models=[
            TableRow(False, None, [_text(model.label), *(_text(_shown(model.result.get(name))) for name in used)])
            for model in board.models
        ],
        methods=METHODS,
    )


def found(board: Board) -> list[str]:
    """Of each metric the best model, and the models that it beats on the same items: their interval leaves out 0."""
    sentences = []
    for number, column in enumerate(board.columns):
        sign = 1 if column.higher_is_better else -1
        best = max(board.scores, key=lambda label: sign * board.scores[label][number].value)
        beaten = [
            other
            for pair, cells in board.differences.items()
            for other in set(pair) - {best}
            if best in pair and cells[number].excludes_zero
        ]
        if beaten:
            value = _cell(board.scores[best][number]).text
            sentences.append(
                f"{column.task}, {column.metric} ({column.items} items): {best} is best with {value}, and better on "
                f"the same items than {', '.join(beaten)}."
            )
    return sentences


def _row(names: list[str], cells: list[Interval], signed: bool = False) -> TableRow:
    return TableRow(False, None, [*map(_text, names), *(_cell(cell, signed) for cell in cells)])


def _cell(cell: Interval, signed: bool = False) -> TableCell:
    text = f"{cell.value:{'+' if signed else ''}.4f}"
    if cell.half_width is not None:
        text += f" ± {cell.half_width:.4f}"
    return TableCell(text, cell.value, bold=signed and cell.excludes_zero)


def _text(text: str) -> TableCell:
    return TableCell(text, text)


def _shown(value: object) -> str:
    return "" if value is None else str(value)
