"""A sweep trains the runs of an experiment, each in its own folder: run, states, cancel, report."""

import pathlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.config import config_hash, flatten, hash_of_stored, stored_values, to_json
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.report.groups import grouped
from mdlm_jax.report.page import write_report
from mdlm_jax.report.stored import find_stored, write_stored
from mdlm_jax.runs import attempts
from mdlm_jax.runs.execution import record_execution
from mdlm_jax.runs.inputs import differing_from
from mdlm_jax.runs.origin import named_point
from mdlm_jax.runs.programs import shape_of
from mdlm_jax.runs.result import FILE_NAME, Result, read_results
from mdlm_jax.runs.saved import saved_steps
from mdlm_jax.runs.say import say
from mdlm_jax.sweeps import slurm
from mdlm_jax.sweeps.branches import ORIGINS, by_trunk, plan_experiment
from mdlm_jax.sweeps.experiment import Experiment
from mdlm_jax.sweeps.found import found_runs
from mdlm_jax.sweeps.jobs import Job
from mdlm_jax.sweeps.plan import PlannedRun, first_of, refuse_all
from mdlm_jax.sweeps.states import RunState, states_of

# (folder of the sweep, runs to start, all runs): starts the runs and returns when they have ended or on a signal
Launcher = Callable[[pathlib.Path, Sequence[Job], Sequence[Job]], None]
MISSING, FAILED = ("waiting", "stopped", "cancelled"), ("failed",)


class Summary(NamedTuple):
    """Numbers of runs that are done, failed and left. The command fails only if a run failed."""

    done: int
    failed: int
    left: int


def prepare(planned: Sequence[PlannedRun], folder: pathlib.Path) -> None:
    """Writes config.json into the folder of every run.

    Raises:
        UserError: A folder already has a run with another config, or cannot be written.
    """
    mistakes = defaultdict(list)
    for run in planned:
        path = folder / run.run_id / "config.json"
        if path.exists():
            if differing := differing_from(path.parent, run.config):
                where = "was started with other values; remove its folder or choose another --folder"
                mistakes[f"{'; '.join(differing)}: {where}"].append(run.run_id)
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, to_json(run.config))
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}); accepted: a folder to write to"
            ) from error
    refuse_all(mistakes)


def record_executions(planned: Sequence[PlannedRun], starting: Sequence[Job]) -> None:
    """Makes runs that are about to start use the execution keys that their experiment has now.

    Each change is recorded with the step of the newest checkpoint, from which the run resumes.
    """
    configs, changes = {run.run_id: run.config for run in planned}, defaultdict(list)
    for job in starting:
        name = job.folder.name
        saved = saved_steps(job.folder / "checkpoints")
        for key, (before, now) in record_execution(configs[name], job.folder, saved[-1] if saved else 0).items():
            changes[f"{key}: {before!r} -> {now!r}"].append(name)
    for change, names in changes.items():
        say(f"{first_of(names)}: {change}, as the experiment has it now")


def jobs_of(planned: Sequence[PlannedRun], folder: pathlib.Path) -> list[Job]:
    """The planned runs as jobs for a launcher, in the folder of a sweep."""
    return [_job(run, folder.absolute() / run.run_id) for run in planned]


def _job(run: PlannedRun, folder: pathlib.Path) -> Job:
    parent = named_point(run.config.branch_from, folder)[0] if run.config.branch_from else None
    counts = float(run.flops.exact), run.steps, attempts.count(folder)
    return Job(folder, *counts, shape=shape_of(run.config), parent=parent, birth_step=run.birth_step)


def states(jobs: Sequence[Job]) -> dict[pathlib.Path, RunState]:
    """The current state of every run."""
    folders = [job.folder for job in jobs]
    return states_of(folders, slurm.queued(folders) or {})


def run(experiment: Experiment, folder: pathlib.Path, launcher: Launcher, chosen: Sequence[str] = MISSING) -> Summary:
    """Prepares all runs and launches some of them. A run that fails does not stop the others.

    A run that was started before resumes with the execution keys that the experiment has now.

    Args:
        experiment: The runs.
        folder: The folder of the sweep.
        launcher: Trains the runs.
        chosen: The states of the runs to launch.

    Returns:
        The numbers of runs after the launcher has returned.

    Raises:
        UserError: Before any run starts, if a config or a folder is invalid or SLURM does not answer.
    """
    planned = plan_experiment(experiment)
    prepare(planned, folder)
    jobs = jobs_of(planned, folder)
    folders = [job.folder for job in jobs]
    if (in_queue := slurm.queued(folders)) is None:
        raise UserError(f"{folder}: SLURM does not answer, so nothing is started; accepted: the same command, later")
    before = states_of(folders, in_queue)
    starting = [job for job in jobs if before[job.folder].state in chosen and not before[job.folder].queued]
    for job in starting:
        (job.folder / attempts.CANCELLED).unlink(missing_ok=True)
    record_executions(planned, starting)
    launcher(folder.absolute(), starting, jobs)
    after = [run.state for run in states(jobs).values()]
    done, failed = after.count("done"), after.count("failed")
    return Summary(done, failed, len(jobs) - done - failed)


def cancel(folder: pathlib.Path) -> int:
    """Cancels all runs that are not done, on every machine. Running ones save their state and stop.

    Returns:
        The number of cancelled runs.
    """
    found = found_runs(folder).states
    over = [path for path, run in found.items() if run.state in ("running", "waiting", "submitted", "stopped")]
    for path in over:
        (path / attempts.CANCELLED).touch()
    slurm.cancel(over)
    return len(over)


def collect(experiment: Experiment, folder: pathlib.Path) -> tuple[list[Result], list[str]]:
    """The results of an experiment's runs, and one line for each run or file that does not belong to the experiment.

    The objective of each result includes the keys that vary (`report/groups.py`).
    """
    configs = dict(zip(experiment.run_ids, experiment.configs, strict=True))
    read, problems = read_results(folder / name for name in configs)
    results = []
    for result in read:
        if result.run_id not in configs:
            problems.append(f"{folder}: holds a result of {result.run_id}, which is not among {experiment.path}")
        elif not _is_of(result, configs[result.run_id], folder, experiment.branch):
            problems.append(f"{folder / result.run_id}: its config is not that of {experiment.path}")
        else:
            results.append(result)
    holding = {path.parent for name in ("config.json", FILE_NAME) for path in folder.glob(f"*/{name}")}
    known = configs.keys() | (by_trunk(experiment.configs).keys() if experiment.branch else set())
    strangers = sorted(path for path in holding if path.name not in known)
    problems += [f"{path}: not among the runs of {experiment.path}" for path in strangers]
    return grouped(results, {name: dict(flatten(config)) for name, config in configs.items()}), problems


def _is_of(result: Result, config: ConfigDict, folder: pathlib.Path, branch: bool) -> bool:
    """Whether a result belongs to this config. Execution keys and the spelling of paths may differ.

    With `branch` the run may continue a trunk, which then has the start of the config.
    """
    if result.config_hash == config_hash(config):
        return True
    run = folder / result.run_id
    try:
        differing = differing_from(run, config)
        if branch and (branch_from := stored_values(run / "config.json")["branch_from"]):
            trunk = stored_values(named_point(branch_from, run)[0] / "config.json")
            if trunk["start_from"] != config.start_from:
                return False
            differing = [line for line in differing if line.partition(":")[0] not in ORIGINS]
        return result.config_hash == hash_of_stored(run / "config.json") and not differing
    except UserError:
        return False


def report(
    experiment: Experiment, folder: pathlib.Path, out: pathlib.Path | None = None, store: pathlib.Path | None = None
) -> tuple[pathlib.Path, list[str]]:
    """Writes report.html and its figures.

    Args:
        experiment: The runs.
        folder: The folder of the sweep.
        out: Where to write the report; by default `folder`.
        store: A file in which all results are stored, too.

    Returns:
        The path of the report, and one line for each result that is left out.

    Raises:
        UserError: There is nothing to report.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; accepted: the folder of a sweep that was started")
    results, problems = collect(experiment, folder)
    if store is not None:
        write_stored(store, results)
    runs = {result.run_id: folder / result.run_id for result in results}
    return write_report(results, out or folder, experiment.title, problems, runs), problems


def report_stored(path: pathlib.Path, out: pathlib.Path | None = None) -> tuple[pathlib.Path, list[str]]:
    """`report` from stored results: a file or its folder. The report goes into `out` or beside them.

    Raises:
        UserError: There are no stored results.
    """
    results, problems, runs = find_stored(path)
    folder = path if path.is_dir() else path.parent
    return write_report(results, out or folder, folder.resolve().name, problems, runs), problems
