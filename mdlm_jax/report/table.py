"""The table of runs: what every row and column of it shows."""

import os
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from mdlm_jax.costs.flops import COUNTERS
from mdlm_jax.report.study import Study
from mdlm_jax.runs.result import Result
from mdlm_jax.style import number

HEADINGS = (
    *("run", "objective", "size", "seed", "N", "N total", "D", "steps", "epochs", "budget", *COUNTERS),
    *("loss (nats)", "standard error", "Monte Carlo error", "bits/byte", "learning rate", "seconds", "status"),
)


class TableCell(NamedTuple):
    """Text, and what it is sorted by."""

    text: str
    value: float | int | str


class TableRow(NamedTuple):
    config: str | None  # address of config.json, relative to the page
    cells: list[TableCell]


def _plain(value: int) -> TableCell:
    return TableCell(f"{value:,}", value)


def _short(value: float | int) -> TableCell:
    return TableCell(number(value), value)


def _fixed(value: float | int | None, digits: int) -> TableCell:
    return TableCell("", 1e300) if value is None else TableCell(f"{value:.{digits}f}", value)


def _status(run: Result, study: Study) -> str:
    if run.status == "failed":
        return f"failed: {run.cause}"
    reasons = [line for line in study.analysis.left_out if line.startswith(f"{run.run_id}: ")]
    return f"left out: {reasons[0].partition(': ')[2]}" if reasons else "done"


def _row(run: Result, study: Study, config: str | None) -> TableRow:
    status = _status(run, study)
    cells = [
        TableCell(run.run_id, run.run_id),
        TableCell(run.objective, run.objective),
        TableCell(run.size, run.parameters_non_embedding),
        *map(_plain, (run.seed, run.parameters_non_embedding, run.parameters_total, run.tokens, run.steps)),
        _fixed(run.epochs, 2),
        _short(run.budget) if run.budget > 0 else TableCell("steps", 0.0),
        *(_short(run.flops[counter]) for counter in COUNTERS),
        *(_fixed(value, 4) for value in (run.loss, run.loss_standard_error, run.loss_monte_carlo_error)),
        _fixed(run.bits_per_byte, 4),
        _short(run.learning_rate),
        _fixed(run.wall_seconds, 1),
        TableCell(status, status),
    ]
    return TableRow(config, cells)


def _config(folder: pathlib.Path | None, page: pathlib.Path) -> str | None:
    """The address of a run's config as seen from the folder of the page."""
    if folder is None or not (folder / "config.json").exists():
        return None
    return urllib.parse.quote(pathlib.Path(os.path.relpath(folder / "config.json", page)).as_posix())


def rows(study: Study, folders: Mapping[str, pathlib.Path], page: pathlib.Path) -> list[TableRow]:
    """Every run that has a result, those that failed first; `page` is the folder of the report."""
    ordered = sorted(study.results, key=lambda run: (run.status == "done", run.objective, run.budget, run.tokens))
    return [_row(run, study, _config(folders.get(run.run_id), page)) for run in ordered]
