"""What the runs of a sweep are and cost, before any of them starts."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict
from rich.table import Table

from mdlm_jax import build
from mdlm_jax.build_objective import objective_label
from mdlm_jax.errors import UserError
from mdlm_jax.scaling.flops import Flops, Parameters, num_parameters, steps_for_budget


class PlannedRun(NamedTuple):
    run_id: str
    config: ConfigDict
    parameters: Parameters
    tokens: int  # D
    steps: int
    flops: Flops  # of the whole run


def run_id(config: ConfigDict) -> str:
    """The identity of a run, and its folder's name: objective, budget or steps, size, peak learning rate, seed."""
    spent = f"{config.budget:g}".replace("e+0", "e").replace("e+", "e") if config.budget else f"{config.steps}steps"
    return f"{objective_label(config)}-{spent}-{size_name(config)}-lr{config.optim.lr:g}-seed{config.seed}"


def size_name(config: ConfigDict) -> str:
    """As `size` in a result."""
    return config.model.size or f"{config.model.layers}x{config.model.width}"


def _stay_off_accelerators() -> None:
    # planning computes a little; on an accelerator that would take the memory, or the device itself, from the runs
    jax.config.update("jax_platforms", "cpu")


def plan_runs(configs: Sequence[ConfigDict]) -> list[PlannedRun]:
    """What every run costs. Raises one UserError with a line for each different mistake and the runs that share it."""
    _stay_off_accelerators()
    planned, mistakes = [], defaultdict(list)
    counted: dict[str, build.Plan] = {}  # runs that differ only in seed and budget have one cost of a step
    for config in configs:
        key = json.dumps(config.to_dict() | {"seed": 0, "budget": config.budget > 0})
        try:
            if key not in counted:
                counted[key] = build.plan(config)
            planned.append(_planned(config, counted[key]))
        except UserError as error:
            mistakes[str(error)].append(run_id(config))
    refuse_all(mistakes)
    return planned


def _planned(config: ConfigDict, step: build.Plan) -> PlannedRun:
    steps = config.steps
    if config.budget:
        steps = steps_for_budget(config.budget, getattr(step.flops_per_step, config.budget_counter))
    flops = Flops(*(steps * count for count in step.flops_per_step))
    return PlannedRun(
        run_id(config), config, num_parameters(step.architecture), steps * step.tokens_per_step, steps, flops
    )


def refuse_all(mistakes: dict[str, list[str]]) -> None:
    """Raises where there are mistakes: message -> the runs that made it."""
    if mistakes:
        others = lambda runs: f" and {len(runs) - 1} more" if len(runs) > 1 else ""  # noqa: E731
        raise UserError("\n".join(f"{runs[0]}{others(runs)}: {message}" for message, runs in mistakes.items()))


def plan_table(planned: Sequence[PlannedRun]) -> Table:
    """Every run with N, D and its FLOPs by the four counters, and their sum."""
    columns = ("run", "N", "N total", "D", "steps", "batch", "lr", "6ND", "6ND total", "6ND + attention", "exact")
    table = Table(box=None, show_footer=True, pad_edge=False)
    total = sum(run.flops.exact for run in planned)
    footers = [f"{len(planned)} runs", *[""] * 9, f"{total:.2e}"]
    for column, footer in zip(columns, footers, strict=True):
        table.add_column(column, footer, justify="left" if column == "run" else "right", no_wrap=True)
    for run in planned:
        table.add_row(
            run.run_id,
            f"{run.parameters.non_embedding:,}",
            f"{run.parameters.total:,}",
            f"{run.tokens:.3g}",
            f"{run.steps:,}",
            f"{run.config.train.batch_size}",
            f"{run.config.optim.lr:.3g}",
            *(f"{count:.2e}" for count in run.flops),
        )
    return table
