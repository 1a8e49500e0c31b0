"""The runs in the folder of a sweep, with their states.

A file in the folder keeps what is known of runs that are done, so that thousands of them are read in a second. The file
may be deleted at any time.
"""

import contextlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.config import from_json
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.finished import finished, versions
from mdlm_jax.runs.result import validate
from mdlm_jax.sweeps import slurm
from mdlm_jax.sweeps.jobs import Job
from mdlm_jax.sweeps.places import config_files
from mdlm_jax.sweeps.states import RunState, state_of, states_of

KEPT = ".done.json"


class Found(NamedTuple):
    """What the folder of a sweep holds."""

    jobs: list[Job]  # by name
    states: dict[pathlib.Path, RunState]
    problems: list[str]  # one line for each config that cannot be read


def found_runs(folder: pathlib.Path) -> Found:
    """The runs in the folder of a sweep.

    Raises:
        UserError: There is no run, or no config can be read.
    """
    kept, states, configs, problems = _read(folder / KEPT), {}, {}, []
    known: dict[str, dict[str, Any]] = {}
    for path in config_files(folder):
        run = path.parent.absolute()
        version = versions(run)
        if (entry := kept.get(run.name)) and entry["versions"] == version:
            states[run], known[run.name] = entry["state"], entry
            continue
        try:
            if finished(run) is None:
                configs[run] = from_json(path)
            else:
                states[run] = state_of(run, {})
        except UserError as error:
            problems.append(str(error))
            continue
        if run in states and states[run].state == "done":
            known[run.name] = {"versions": version, "state": states[run]}
    if not states and not configs:
        raise UserError("\n".join(problems))
    if known.keys() != kept.keys() or any(known[name] is not kept[name] for name in known):
        _write(folder / KEPT, known)
    states |= states_of(list(configs), slurm.queued(list(configs)) or {})
    jobs = {run: _job_of(run, state) for run, state in states.items() if run not in configs}
    jobs |= _planned(folder, configs)
    return Found([jobs[run] for run in sorted(jobs)], {run: states[run] for run in sorted(states)}, problems)


def _job_of(run: pathlib.Path, state: RunState) -> Job:
    """The job of a run with a result, which holds what a plan would find; planning takes long."""
    assert state.result is not None
    return Job(run, state.result.own_flops["exact"], state.result.steps, state.attempts)


def _planned(folder: pathlib.Path, configs: dict[pathlib.Path, ConfigDict]) -> dict[pathlib.Path, Job]:
    """The jobs of runs without a result."""
    if not configs:
        return {}
    from mdlm_jax.sweeps.plan import plan_runs
    from mdlm_jax.sweeps.sweep import jobs_of

    # the folder may have been copied or renamed, so the job keeps the folder that was found
    planned = zip(configs, jobs_of(plan_runs(list(configs.values())), folder), strict=True)
    return {run: job._replace(folder=run) for run, job in planned}


def _read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Run -> its state and the versions of the files that it was read from; {} where there is no whole file."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError, UserError):
        stored: dict[str, Sequence] = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: {
                "versions": tuple(map(tuple, files)),
                "state": RunState("done", "", attempts, 0.0, metrics, validate(result, str(path))),
            }
            for name, (files, attempts, metrics, result) in stored.items()
        }
    return {}


def _write(path: pathlib.Path, known: dict[str, dict[str, Any]]) -> None:
    stored = {
        name: (entry["versions"], entry["state"].attempts, entry["state"].metrics, entry["state"].result._asdict())
        for name, entry in known.items()
    }
    with contextlib.suppress(OSError):  # the disk may be full or read-only; the next look then takes longer
        write_whole(path, json.dumps(stored))
