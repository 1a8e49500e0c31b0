"""How well the laws extrapolate: errors of what was left out, by distance."""

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mdlm_jax.laws import Audit, Bin, by_distance
from mdlm_jax.report.parametric_fits import ParametricFit


def audit_table(audits: Mapping[str, Audit]) -> Table:
    """One row for each objective, what was left out and distance; errors in percent of the loss."""
    columns = ("objective", "left out", "decades outside", "losses", "mean error, %", "root mean square error, %")
    table = Table(*columns, box=None)
    for objective, found in audits.items():
        for one in by_distance(found):
            errors = f"{100 * one.bias:+.2f}", f"{100 * one.error:.2f}"
            table.add_row(objective, one.held_out, _distance(one), str(one.count), *errors)
    return table


def _distance(one: Bin) -> str:
    if one.high == 0:
        return "0"
    return f"above {one.low:g}" if math.isinf(one.high) else f"{one.low:g} to {one.high:g}"


def audits_as_json(audits: Mapping[str, Audit]) -> dict[str, Any]:
    """Every loss that was left out; columns by name."""
    return {
        objective: {
            name: column if isinstance(column, list) else column.tolist() for name, column in found._asdict().items()
        }
        for objective, found in audits.items()
    }


def extrapolations(surfaces: Mapping[str, Any]) -> list[str]:
    """The error at the largest distance, for each objective and what was left out."""
    sentences = []
    for objective, surface in surfaces.items():
        if not isinstance(surface, ParametricFit):
            continue
        furthest = {one.held_out: one for one in by_distance(surface.audit)}
        sentences += [
            f"{objective}, largest {name} left out: {100 * one.bias:+.2f}% off on average at {_distance(one)} decades "
            f"outside (root mean square {100 * one.error:.2f}%, {one.count} losses)."
            for name, one in furthest.items()
        ]
    return sentences
