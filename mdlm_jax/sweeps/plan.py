"""The plan of a sweep: the size and cost of every run, before any run starts."""

import json
import math
import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict
from rich.table import Table

from mdlm_jax.build import Plan, plan, warmup_steps
from mdlm_jax.costs.counters import Flops
from mdlm_jax.costs.flops import Parameters, num_parameters, steps_for_budget
from mdlm_jax.costs.memory import Memory, device_memory
from mdlm_jax.costs.prices import Hardware, dollars, hours
from mdlm_jax.errors import UserError
from mdlm_jax.runs.origin import named_point
from mdlm_jax.sweeps.names import run_ids

COUNTER_NAMES = ("6ND", "6ND total", "6ND + attention", "exact")


class PlannedRun(NamedTuple):
    """A run and its cost."""

    run_id: str
    config: ConfigDict
    parameters: Parameters
    tokens: int  # D, with those of the run that a branch continues
    steps: int  # in the same way
    warmup_steps: int
    flops: Flops  # of the steps that the run takes itself
    step: Plan  # of one step; shared by runs that differ in seed, budget or learning rate
    birth_step: int = 0  # of a branch: the steps that its trunk took for it


def _stay_off_accelerators() -> None:
    # planning computes little, but on an accelerator it would hold memory, or the device itself, that the runs need
    jax.config.update("jax_platforms", "cpu")


def plan_runs(configs: Sequence[ConfigDict], names: Sequence[str] | None = None) -> list[PlannedRun]:
    """Plans every run.

    Args:
        configs: The runs of one sweep.
        names: Their names; by default those of `run_ids`.

    Raises:
        UserError: One line for each distinct mistake, with the runs that share it.
    """
    _stay_off_accelerators()
    names = run_ids(configs) if names is None else names
    planned, mistakes = [], defaultdict(list)
    counted: dict[str, Plan] = {}
    for name, config in zip(names, configs, strict=True):
        key = _key_of_step(config)
        try:
            if key not in counted:
                counted[key] = plan(config)
            planned.append(planned_run(name, config, counted[key]))
        except UserError as error:
            mistakes[str(error)].append(name)
    refuse_all(mistakes)
    return planned


def _key_of_step(config: ConfigDict) -> str:
    """A key that runs share if a step costs the same in each and any mistake in the config is the same."""
    values = config.to_dict()
    values |= {"seed": min(config.seed, 0), "budget": min(config.budget, 1.0), "steps": min(config.steps, 1)}
    values["optim"] |= {"lr": 1.0} if 0 < config.optim.lr < math.inf else {}
    return json.dumps(values)


def planned_run(name: str, config: ConfigDict, step: Plan) -> PlannedRun:
    """A run and its cost, from the plan of one of its steps.

    Raises:
        UserError: The budget is smaller than one step, or `branch_from` is no FOLDER@STEP.
    """
    steps = config.steps
    if config.budget:
        steps = steps_for_budget(config.budget, getattr(step.flops_per_step, config.budget_counter))
    birth_step = named_point(config.branch_from, pathlib.Path())[1] if config.branch_from else 0
    return PlannedRun(
        name,
        config,
        num_parameters(step.architecture),
        steps * step.tokens_per_step,
        steps,
        warmup_steps(config, steps),
        Flops(*((steps - birth_step) * count for count in step.flops_per_step)),
        step,
        birth_step,
    )


def refuse_all(mistakes: dict[str, list[str]]) -> None:
    """Raises UserError if there are any mistakes (message -> names of the runs)."""
    if mistakes:
        raise UserError("\n".join(f"{first_of(runs)}: {message}" for message, runs in mistakes.items()))


def first_of(names: Sequence[str]) -> str:
    """The first name, and how many there are besides.

    >>> first_of(["a", "b", "c"])
    'a and 2 more'
    """
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def memory_of(run: PlannedRun, devices: int) -> Memory:
    """The memory that a run needs on each of its devices."""
    step = run.step
    shape = {"positions": step.positions, "scored": step.scored, "views": step.objective.views}
    return device_memory(run.config, step.architecture, devices=devices, **shape)


def plan_table(planned: Sequence[PlannedRun], hardware: Hardware | None = None, mfu: float = 0.5) -> Table:
    """A table of every run with N, D and the FLOPs by four counters: of a branch, those of its own steps.

    Args:
        planned: The runs.
        hardware: The devices of one run; adds hours, dollars and memory per device.
        mfu: Model FLOPs utilisation, the share of peak FLOP/s that a run reaches. Hours follow from the exact count.
    """
    branching = any(run.birth_step for run in planned)
    named = ("run", "N", "N total", "D", "steps", "warm-up", "batch", "lr", *COUNTER_NAMES)
    total = float(sum(run.flops.exact for run in planned))
    sums = [f"{len(planned)} runs", *[""] * 10, f"{total:.2e}"]
    if hardware is not None:
        device = f"{hardware.name}:{hardware.devices}"
        unfit = sum(memory_of(run, hardware.devices).total > hardware.memory for run in planned)
        named += (f"hours on {device}", "$", "GB a device", f"of {hardware.memory / 1e9:.0f}")
        sums += [f"{hours(total, hardware, mfu):,.2f}", f"{dollars(total, hardware, mfu):,.2f}", ""]
        sums += [f"{unfit} do not fit" if unfit else "all fit"]
    table = Table(box=None, show_footer=True, pad_edge=False)
    for column, footer in zip(named, sums, strict=True):
        table.add_column(column, footer, justify="left" if column == "run" else "right", no_wrap=True)
        if column == "steps" and branching:
            table.add_column("from step", justify="right", no_wrap=True)
    for run in planned:
        cells = [
            run.run_id,
            f"{run.parameters.non_embedding:,}",
            f"{run.parameters.total:,}",
            f"{run.tokens:.3g}",
            f"{run.steps:,}",
            *([f"{run.birth_step:,}" if run.birth_step else ""] if branching else []),
            f"{run.warmup_steps:,}",
            f"{run.config.train.batch_size}",
            f"{run.config.optim.lr:.3g}",
            *(f"{count:.2e}" for count in run.flops),
        ]
        if hardware is not None:
            memory, spent = memory_of(run, hardware.devices).total, float(run.flops.exact)
            cells += [f"{hours(spent, hardware, mfu):,.3g}", f"{dollars(spent, hardware, mfu):,.2f}"]
            cells += [f"{memory / 1e9:.3g}", "fits" if memory <= hardware.memory else "too much"]
        table.add_row(*cells)
    return table
