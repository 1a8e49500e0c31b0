"""The table of runs."""

import os
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from mdlm_jax.costs.counters import COUNTER_LABELS
from mdlm_jax.report.study import Study
from mdlm_jax.runs.result import Result
from mdlm_jax.style import number


class TableCell(NamedTuple):
    """The text of a cell, and the value that sorts it."""

    text: str
    value: float | int | str
    more: str = ""  # shown while the pointer rests on the cell
    bold: bool = False


class TableRow(NamedTuple):
    failed: bool
    config: str | None  # link to config.json, relative to the page
    cells: list[TableCell]


def _plain(value: int) -> TableCell:
    return TableCell(f"{value:,}", value)


def _short(value: float | int) -> TableCell:
    return TableCell(number(value), value)


def _fixed(value: float | int | None, digits: int) -> TableCell:
    return TableCell("", 1e300) if value is None else TableCell(f"{value:.{digits}f}", value)


def _parent(run: Result) -> str:
    """The run that this one continues, and how many tokens it inherits."""
    if not run.parent:
        return ""
    return f"{run.parent} from step {run.birth_step:,} ({run.kinship}, {number(run.inherited_tokens)} tokens)"


def _status(run: Result, study: Study) -> str:
    if run.status == "failed":
        return f"failed: {run.cause}"
    reasons = [line for line in study.analysis.left_out if line.startswith(f"{run.run_id}: ")]
    return f"left out: {reasons[0].partition(': ')[2]}" if reasons else "done"


def _counter(study: Study) -> str:
    """How FLOPs are counted: as in the budgets, which a report of failed runs alone does not have."""
    return study.analysis.counter or "exact"


def headings(study: Study) -> list[str]:
    """One heading a column. What is empty in every row has no column: the table is wide enough."""
    return [
        *("run", "status", "loss (nats)", "standard error", "Monte Carlo error", "bits/byte", "objective", "size"),
        *("N", "N total", "D", "steps", "epochs", "budget", f"FLOPs, {COUNTER_LABELS[_counter(study)]}"),
        *("learning rate", "seed", "seconds"),
        *(["continues"] if any(run.parent for run in study.results) else []),
    ]


def _flops(run: Result, counter: str) -> TableCell:
    counts = [f"{label}: {number(run.flops[name])}" for name, label in COUNTER_LABELS.items()]
    return TableCell(number(run.flops[counter]), run.flops[counter], "; ".join(counts))


def _row(run: Result, study: Study, config: str | None) -> TableRow:
    status = _status(run, study)
    cells = [
        TableCell(run.run_id, run.run_id),
        TableCell(status, status),
        *(_fixed(value, 4) for value in (run.loss, run.loss_standard_error, run.loss_monte_carlo_error)),
        _fixed(run.bits_per_byte, 4),
        TableCell(run.objective, run.objective),
        TableCell(run.size, run.parameters_non_embedding),
        *map(_plain, (run.parameters_non_embedding, run.parameters_total, run.tokens, run.steps)),
        _fixed(run.epochs, 2),
        _short(run.budget) if run.budget > 0 else TableCell("steps", 0.0),
        _flops(run, _counter(study)),
        _short(run.learning_rate),
        _plain(run.seed),
        _fixed(run.wall_seconds, 1),
        TableCell(_parent(run), run.parent),
    ]
    return TableRow(run.status == "failed", config, cells[: len(headings(study))])


def _config(folder: pathlib.Path | None, page: pathlib.Path) -> str | None:
    """A link from the folder of the page to the config of a run, if there is one."""
    if folder is None or not (folder / "config.json").exists():
        return None
    return urllib.parse.quote(pathlib.Path(os.path.relpath(folder / "config.json", page)).as_posix())


def rows(study: Study, folders: Mapping[str, pathlib.Path], page: pathlib.Path) -> list[TableRow]:
    """Every run that has a result, failed ones first. `page` is the folder of the report."""
    ordered = sorted(study.results, key=lambda run: (run.status == "done", run.objective, run.budget, run.tokens))
    return [_row(run, study, _config(folders.get(run.run_id), page)) for run in ordered]
