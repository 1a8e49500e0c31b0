"""Learning curves of runs, and the frontier over all of their points (approach 1)."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdlm_jax.laws import Frontier, LearningCurve, Refusal, smoothed_frontier
from mdlm_jax.runs.result import Result

POINTS = 150  # of a learning curve in a panel
MOST_POINTS = 16_000  # of all curves in a page
LEAST_POINTS = 12  # of a curve that a frontier uses


def learning_curve(path: str | os.PathLike, points: int = POINTS) -> tuple[np.ndarray, np.ndarray] | None:
    """FLOPs and training loss of a metrics.jsonl, averaged within bins of log FLOPs; None without two such lines.

    Lines that are cut short or lack a finite value of either are passed over.
    """
    rows = []
    for row in _lines(pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines()):
        flops, loss = (row.get(key) for key in ("flops", "loss")) if isinstance(row, dict) else (None, None)
        if isinstance(flops, int | float) and isinstance(loss, int | float) and flops > 0 and math.isfinite(loss):
            rows.append((flops, loss))
    if len(rows) < 2:
        return None
    flops, loss = np.array(rows, float).T
    bins = np.floor(points * np.log(flops / flops.min()) / np.log(flops.max() / flops.min() + 1e-9)).astype(int)
    counts = np.bincount(bins)
    filled = counts > 0
    mean_flops, mean_loss = (np.bincount(bins, values)[filled] / counts[filled] for values in (flops, loss))
    return mean_flops, mean_loss


def _lines(lines: list[str]) -> list[Any]:
    """The values of all lines that are JSON. Many lines are read at once, in a third of the time."""
    whole = lines[:-1]  # a run that was killed leaves its last line cut short
    try:
        values = json.loads(f"[{','.join(whole)}]")
        if len(values) == len(whole):
            return values + _each(lines[-1:])
    except (ValueError, RecursionError):
        pass
    return _each(lines)


def _each(lines: list[str]) -> list[Any]:
    values = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            values.append(json.loads(line))
    return values


def learning_curves(runs: Sequence[Result], folders: Mapping[str, pathlib.Path], counter: str) -> dict:
    """(FLOPs of `counter`, training loss) by run id, for the runs whose folder has a metrics.jsonl."""
    paths = {run.run_id: folders[run.run_id] / "metrics.jsonl" for run in runs if run.run_id in folders}
    paths = {run_id: path for run_id, path in paths.items() if path.is_file()}
    points = min(POINTS, MOST_POINTS // max(len(paths), 1))
    found = {}
    for run in runs:
        curve = learning_curve(paths[run.run_id], points) if run.run_id in paths else None
        if curve is not None:
            flops, loss = curve  # of the counter `exact`; every step costs the same
            own = run.own_flops[counter] / run.own_flops["exact"]
            # a branch counts the steps of its parent, a run that begins with weights only its own
            inherited = run.inherited_flops.get(counter, 0.0) if run.kinship == "weights" else 0.0
            found[run.run_id] = (inherited + own * flops, loss)
    return found


def _tokens(run: Result, flops: np.ndarray, counter: str) -> np.ndarray:
    """Tokens trained on until each count of FLOPs. Tokens of a parent may have cost other FLOPs than the run's own."""
    return run.tokens - (run.flops[counter] - flops) / run.own_flops[counter] * run.own_tokens


def curves_frontier(runs: Sequence[Result], curves: Mapping[str, tuple], counter: str) -> Frontier | Refusal:
    """The frontier over the learning curves of one objective, refused with fewer than three sizes."""
    long = [run for run in runs if run.run_id in curves and len(curves[run.run_id][0]) >= LEAST_POINTS]
    if len({run.parameters_non_embedding for run in long}) < 3:
        return Refusal(f"fewer than three sizes have learning curves of {LEAST_POINTS} points")
    if min(curves[run.run_id][1].min() for run in long) <= 0:
        return Refusal("a frontier needs positive losses")
    return smoothed_frontier(
        [
            LearningCurve(
                float(run.parameters_non_embedding),
                _tokens(run, curves[run.run_id][0], counter),
                *curves[run.run_id],
            )
            for run in long
        ]
    )
