"""The launchers of a sweep: a pool on this machine, SLURM, or a submit line for any other scheduler."""

import pathlib
from collections import defaultdict
from collections.abc import Callable, Sequence

from rich.console import Console

from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.finished import is_done
from mdlm_jax.runs.population import populations
from mdlm_jax.sweeps import allocations as shared
from mdlm_jax.sweeps import launch, live, slurm, states, submit_line, waits
from mdlm_jax.sweeps.jobs import Job
from mdlm_jax.sweeps.plan import first_of
from mdlm_jax.sweeps.sweep import Launcher
from mdlm_jax.sweeps.work import TRAIN


def local(workers: int = 0, command: Sequence[str] = TRAIN) -> Launcher:
    """A launcher that trains on this machine: one run per accelerator or core, or `workers` runs at once.

    It also waits for runs that other processes hold, and takes over the runs of processes that have died.

    Raises:
        UserError: `workers` is negative.
    """
    launch.check_workers(workers)

    def bring(folder: pathlib.Path, starting: Sequence[Job], jobs: Sequence[Job]) -> None:
        held = [job for job in jobs if job not in starting and attempts.is_running(job.folder)]
        if starting or held:
            done = sum(is_done(job.folder) for job in jobs)
            with live.display(done, Console()) as watch:
                launch.run_pool([*starting, *held], launch.slots(workers), is_done, watch, command)

    return bring


def by_slurm(resources: dict[str, str], command: Sequence[str] = TRAIN, allocations: int = 0) -> Launcher:
    """A launcher that submits one SLURM array and watches it. The runs continue if the watching command ends.

    Branches follow in arrays of their own, when their parents have saved what they continue.

    Args:
        resources: Options of sbatch.
        command: The command that trains the runs whose folders follow it.
        allocations: The number of allocations that share the runs; 0 for one job per run.

    Raises:
        UserError: The number of allocations is negative, or each has more than one process.
    """
    slurm.check_allocations(allocations, resources)

    def bring(folder: pathlib.Path, starting: Sequence[Job], jobs: Sequence[Job]) -> None:
        console = Console()

        def submit(ready: Sequence[Job]) -> None:
            if allocations:
                ids = shared.submit(folder, ready, resources, command, allocations)
            else:
                ids = slurm.submit(folder, ready, resources, command)
            where = f" in {len(ids)} allocations" if allocations else ""
            runs = sum(len(job.together) for job in ready)
            console.print(f"{runs} runs submitted to SLURM{where}, from {ids[0]}; they continue if this command ends")

        def over(found: dict[pathlib.Path, states.RunState], answered: bool) -> bool:
            return answered and not any(run.queued or run.state == "running" for run in found.values())

        _submit_and_watch(starting, jobs, submit, over, console)

    return bring


def by_line(line: str, command: Sequence[str] = TRAIN) -> Launcher:
    """A launcher that runs the submit line of another scheduler for each run, then watches the runs.

    Raises:
        UserError: The line lacks {command} or has an unknown field.
    """
    submit_line.check_line(line)

    def bring(folder: pathlib.Path, starting: Sequence[Job], jobs: Sequence[Job]) -> None:
        console, submitted = Console(), []

        def submit(ready: Sequence[Job]) -> None:
            problems = submit_line.submit(ready, line, command)
            submitted.extend(job for job in ready if job.folder not in problems)
            if not submitted:
                raise UserError(
                    f"--submit={line!r}: no run was submitted, {next(iter(problems.values()))}; "
                    "accepted: a line that ends with exit code 0"
                )
            console.print(f"{len(ready) - len(problems)} runs submitted; they continue if this command ends")
            causes = defaultdict(list)
            for path, problem in problems.items():
                causes[problem].append(path.name)
            for problem, names in causes.items():
                console.print(f"{first_of(names)}: not submitted, {problem}", soft_wrap=True, markup=False)

        def over(found: dict[pathlib.Path, states.RunState], answered: bool) -> bool:
            return not any(run.state in ("submitted", "running") for run in found.values())

        _submit_and_watch(starting, jobs, submit, over, console)

    return bring


def in_populations(launcher: Launcher, members: int) -> Launcher:
    """A launcher that trains up to `members` runs as one program where possible (`runs/population.py`).

    Raises:
        UserError: `members` is less than 1.
    """
    if members < 1:
        raise UserError(f"--population={members}; accepted: 1 or more runs")

    def bring(folder: pathlib.Path, starting: Sequence[Job], jobs: Sequence[Job]) -> None:
        launcher(folder, grouped(starting, members) if members > 1 else starting, jobs)

    return bring


def grouped(jobs: Sequence[Job], members: int) -> list[Job]:
    """Groups jobs into programs of at most `members` runs: the first job of each, with the others as its mates."""
    folders = [job.folder for job in jobs]
    found = []
    for group in populations([config_of_run(folder) for folder in folders], folders):
        for first in range(0, len(group), members):
            lead, *mates = (jobs[number] for number in group[first : first + members])
            found.append(lead._replace(mates=tuple(mates)))
    return found


def _submit_and_watch(
    starting: Sequence[Job],
    jobs: Sequence[Job],
    submit: Callable[[Sequence[Job]], None],
    over: Callable[[dict, bool], bool],
    console: Console,
) -> None:
    """Submits each run as soon as it can start, and watches all until they have ended."""
    left = list(starting)

    def submit_ready() -> bool:
        if ready := [job for job in left if waits.is_ready(job)]:
            left[:] = [job for job in left if job not in ready]
            submit(ready)
        return bool(ready)

    submit_ready()
    if left:
        console.print(f"{len(left)} branches are submitted when they can start, while this command watches")
    if not states.watch(jobs, over, console, submit_ready):
        console.print("the runs continue; `sweep status` shows them, `sweep cancel` cancels them")
    if left:
        console.print(f"{len(left)} branches are not submitted yet; the same command submits them")
