"""Runs that differ only in length as branches of one trunk (Hägele et al., arXiv 2405.18392).

With the schedule `wsd` the learning rate is constant between warm-up and decay, so runs that differ only in length take
the same steps until the first of them decays. The trunk takes these steps once, at a constant rate. Each run continues
the trunk's checkpoint at its own decay, and is bit by bit the run that starts from scratch.
"""

import pathlib
from collections import defaultdict
from collections.abc import Sequence

from ml_collections import ConfigDict

from mdlm_jax.build import Plan
from mdlm_jax.build.plan import asked_warmup
from mdlm_jax.config import override, to_json
from mdlm_jax.configs.base import KEYS
from mdlm_jax.errors import UserError
from mdlm_jax.report.shared_cost import SharedCost
from mdlm_jax.runs.origin import named_point
from mdlm_jax.sweeps.experiment import Experiment
from mdlm_jax.sweeps.names import trunk_ids
from mdlm_jax.sweeps.plan import PlannedRun, plan_runs, planned_run, refuse_all

# a branch and the run from scratch have the same config but for these
ORIGINS = ("branch_from", "start_from")
# runs of one trunk may differ in these
LENGTHS = {"budget", "budget_counter", "steps", "optim.wsd_steps"}
LENGTHS |= {name for name, key in KEYS.items() if key.execution}


def plan_experiment(experiment: Experiment) -> list[PlannedRun]:
    """Plans every run of an experiment, with its trunks if it branches.

    Raises:
        UserError: One line for each distinct mistake, with the runs that share it.
    """
    whole = plan_runs(experiment.configs, experiment.run_ids)
    return branched(whole, str(experiment.path)) if experiment.branch else whole


def branched(whole: Sequence[PlannedRun], where: str) -> list[PlannedRun]:
    """The trunks and branches that give the same results as these runs. A run that shares no trunk stays as it is.

    Args:
        whole: Runs from scratch.
        where: The experiment, for messages.

    Returns:
        Each trunk, followed by its branches.

    Raises:
        UserError: One line for each distinct mistake: a schedule that is not wsd, a run shorter than its warm-up and
            decay, runs of one trunk with equal lengths or different warm-ups, or no runs that can share a trunk.
    """
    mistakes = defaultdict(list)
    for run in whole:
        if mistake := _mistake_of(run):
            mistakes[mistake].append(run.run_id)
    refuse_all(mistakes)
    groups = by_trunk([run.config for run in whole])
    if all(len(group) < 2 for group in groups.values()):
        raise UserError(
            f"{where}: BRANCH is True, and no two runs differ in length alone; accepted: runs that differ only in "
            "budget, steps or optim.wsd_steps, or BRANCH = False"
        )
    found = []
    for name, group in groups.items():
        runs = [whole[number] for number in group]
        if len(runs) < 2:
            found += runs
        elif mistake := _mistake_of_trunk(runs):
            mistakes[mistake] += [run.run_id for run in runs]
        else:
            found += _with_trunk(name, runs)
    refuse_all(mistakes)
    names = [run.run_id for run in found]
    if twice := next((name for name in groups if names.count(name) > 1), ""):
        raise UserError(f"{where}: a run is called {twice!r}, as a trunk is; accepted: another name")
    return found


def cost_of(planned: Sequence[PlannedRun]) -> SharedCost | None:
    """What planned runs cost, counted exactly; None if none is a branch."""
    branches = [run for run in planned if run.birth_step]
    if not branches:
        return None
    trunks = {named_point(run.config.branch_from, pathlib.Path())[0].name for run in branches}
    spent = float(sum(run.flops.exact for run in planned))
    alone = sum(float(run.steps * run.step.flops_per_step.exact) for run in planned if run.run_id not in trunks)
    return SharedCost(len(trunks), len(branches), spent, alone)


def by_trunk(configs: Sequence[ConfigDict]) -> dict[str, list[int]]:
    """Name of a trunk -> the numbers of the runs that can share it. A name does not depend on their lengths."""
    groups, alike = defaultdict(list), {}
    for number, config in enumerate(configs):
        copy = config.copy_and_resolve_references()
        copy.update_from_flattened_dict({name: KEYS[name].default for name in LENGTHS})
        groups[to_json(copy)].append(number)
        alike[to_json(copy)] = copy
    return dict(zip(trunk_ids(list(alike.values())), groups.values(), strict=True))


def cooldown_steps(run: PlannedRun) -> int:
    """The steps in which the learning rate of a wsd run decays."""
    return run.config.optim.wsd_steps or -(-run.steps // 10)


def _birth(run: PlannedRun) -> int:
    return run.steps - cooldown_steps(run)


def _mistake_of(run: PlannedRun) -> str:
    optim, cooldown = run.config.optim, cooldown_steps(run)
    if run.config.branch_from:
        return f"config.branch_from is {run.config.branch_from!r}; accepted: nothing, where BRANCH is True"
    if optim.decay != "wsd":
        return f"config.optim.decay is {optim.decay!r}; accepted: wsd, where BRANCH is True"
    warmup = asked_warmup(run.config, run.steps)
    if warmup + cooldown >= run.steps:
        return (
            f"{run.steps:,} steps, of which {warmup:,} warm up and {cooldown:,} decay; "
            "accepted: a budget or steps for more than both"
        )
    return ""


def _mistake_of_trunk(runs: Sequence[PlannedRun]) -> str:
    lengths, warmups = [run.steps for run in runs], sorted({run.warmup_steps for run in runs})
    if len(set(lengths)) < len(lengths):
        twice = next(length for length in lengths if lengths.count(length) > 1)
        return f"two runs of one trunk have {twice:,} steps; accepted: budgets or steps that differ"
    if len(warmups) > 1:
        return (
            f"runs of one trunk warm up for {warmups[0]:,} to {warmups[-1]:,} steps; "
            "accepted: one number, as with optim.warmup_share=0"
        )
    if (longest := max(map(_birth, runs))) < 2 * warmups[0]:
        return f"a warm-up of {warmups[0]:,} steps; accepted: at most half of the {longest:,} steps of the trunk"
    return ""


def _with_trunk(name: str, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    longest, births = max(runs, key=lambda run: run.steps), sorted({_birth(run) for run in runs})
    keys = {
        "budget": 0.0,
        "steps": births[-1],
        "optim.decay": "constant",
        "optim.warmup_share": 0.0,
        "optim.warmup_min": longest.warmup_steps,
        "train.checkpoint_at": ",".join(map(str, births)),
    }
    found = [_changed(longest.config, keys, name, longest.step)]
    for run in runs:
        origin = {"branch_from": f"{name}@{_birth(run)}", "start_from": ""}
        found.append(_changed(run.config, origin, run.run_id, run.step))
    return found


def _changed(config: ConfigDict, keys: dict, name: str, step: Plan) -> PlannedRun:
    return planned_run(name, override(config, [f"--config.{key}={value}" for key, value in keys.items()]), step)
