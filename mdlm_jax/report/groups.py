"""Runs of one objective that differ in more than size, budget and seed become groups with names of their own."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mdlm_jax.configs.base import KEYS
from mdlm_jax.runs.result import Result

Settings = Mapping[str, Any]  # dotted config key -> value

# A report tells runs apart by these in other ways, or they do not change what a run computes.
IDENTITY = {"seed", "budget", "budget_counter", "steps", "model.size", "data.unique_tokens"}
IDENTITY |= {"start_from", "branch_from"}
EXECUTION = {name for name, key in KEYS.items() if key.execution}


def varying_keys(results: Sequence[Result], configs: Mapping[str, Settings]) -> dict[str, list[str]]:
    """The config keys by which the runs of each objective form groups.

    A key varies if two runs of one size, budget (or number of steps), amount of unique tokens and seed differ in it. A
    learning rate that is scaled with the budget therefore makes no groups; two learning rates at one budget do.

    Args:
        results: All results of a report.
        configs: Flat configs by run id; runs without one are passed over.
    """
    cells = defaultdict(list)
    for run in results:
        if settings := configs.get(run.run_id):
            spent = (settings.get("budget"), None if settings.get("budget") else settings.get("steps"))
            cells[run.objective, run.size, spent, settings.get("data.unique_tokens"), run.seed].append(settings)
    varying = defaultdict(set)
    for (objective, *_), mine in cells.items():
        for key in set().union(*mine) - IDENTITY - EXECUTION:
            if len({json.dumps(settings.get(key)) for settings in mine}) > 1:
                varying[objective].add(key)
    return {objective: sorted(keys) for objective, keys in varying.items()}


def group_name(objective: str, settings: Settings) -> str:
    """The objective with its settings, shown without the section of their keys.

    >>> group_name("masked", {"objective.schedule": "cosine", "optim.lr": 0.01})
    'masked, schedule=cosine, lr=0.01'
    """
    shown = [f"{key.rpartition('.')[2]}={value}" for key, value in settings.items()]
    return ", ".join([objective, *shown])


def base_objective(name: str) -> str:
    """The objective of a group, given the name of the group."""
    return name.partition(", ")[0]


def grouped(results: Sequence[Result], configs: Mapping[str, Settings]) -> list[Result]:
    """The results, with the name of their group as their objective."""
    varying = varying_keys(results, configs)
    return [
        run._replace(
            objective=group_name(
                run.objective, {key: configs[run.run_id].get(key) for key in varying.get(run.objective, [])}
            )
        )
        if run.run_id in configs
        else run
        for run in results
    ]
