"""The state of each run, read from its folder: every machine that mounts the disk sees the same state."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mdlm_jax.config import stored_values
from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.runs.finished import finished
from mdlm_jax.runs.origin import named_point
from mdlm_jax.runs.result import FILE_NAME, Result, read_result
from mdlm_jax.runs.say import clock
from mdlm_jax.sweeps import slurm, waits
from mdlm_jax.sweeps.jobs import Job
from mdlm_jax.sweeps.launched import read_launched
from mdlm_jax.sweeps.live import Pace, last_metrics, seconds_left

MOVING = ("running", "submitted", "waiting")
QUEUE_SECONDS = 15  # between queries to a scheduler
LINE_SECONDS = 60  # between lines without a terminal
LOOK_SECONDS = 2  # between reads of the folders


class RunState(NamedTuple):
    """The state of a run."""

    state: str  # done | running | failed | stopped | cancelled | submitted | waiting
    cause: str  # why the run failed, stopped or waits; may be empty
    attempts: int
    seconds: float  # of the current attempt
    metrics: dict[str, Any]  # the last training metrics
    result: Result | None  # of a run that is done
    queued: bool = False  # whether a scheduler has it in its queue


def state_of(
    folder: pathlib.Path, in_queue: dict[pathlib.Path, str], children: tuple[pathlib.Path, ...] = ()
) -> RunState:
    """The state of one run.

    Args:
        folder: The run.
        in_queue: Run -> queue state, for runs in a scheduler's queue.
        children: The branches that wait for this run, and so cannot be what it waits for.

    Returns:
        The state. If result.json is invalid, its cause says so.
    """
    last = attempts.last_attempt(folder)
    number, metrics, result = last.number if last else 0, last_metrics(folder), finished(folder)
    if result is not None and result.run_id == folder.name:
        return RunState("done", "", number, 0.0, metrics, result)
    if last and attempts.is_alive(folder, last, time.time()):
        return RunState("running", "", number, max(time.time() - last.started, 0.0), metrics, None)
    state, cause = _at_rest(folder, last, in_queue, children)
    return RunState(state, _broken_result(folder) or cause, number, 0.0, metrics, None, folder in in_queue)


def _at_rest(
    folder: pathlib.Path,
    last: attempts.Attempt | None,
    in_queue: dict[pathlib.Path, str],
    children: tuple[pathlib.Path, ...],
) -> tuple[str, str]:
    """(state, cause) of a run that is neither done nor running."""
    launched = read_launched(folder)
    tried = last is not None and (launched is None or last.number > launched.attempts)  # since it was last launched
    if tried and last.outcome == "failed":
        return "failed", last.cause
    if folder in in_queue:
        return "waiting", f"its job is {in_queue[folder].lower()}"
    if (folder / attempts.CANCELLED).exists():
        return "cancelled", ""
    if launched and not tried and launched.launcher != slurm.NAME:
        return "submitted", ""
    if last is None:
        return _before_start(folder, in_queue, children)
    if last.outcome == "failed":
        return "failed", last.cause
    if last.outcome == "done":
        return "stopped", f"{folder / FILE_NAME}: not there, or not of this config"
    return "stopped", last.cause or f"its process on {last.owner.host} is gone"


def _before_start(
    folder: pathlib.Path, in_queue: dict[pathlib.Path, str], children: tuple[pathlib.Path, ...]
) -> tuple[str, str]:
    """(state, cause) of a run that was never started. A branch fails with its parent."""
    if (born := _birth(folder)) is None or waits.has_parent(folder, *born):
        return "waiting", ""
    parent, step = born
    if parent in (folder, *children):
        return "failed", f"config.branch_from: {folder.name} branches from itself; accepted: another run"
    found = state_of(parent, in_queue, (folder, *children))
    if found.state == "failed":
        return "failed", f"{parent.name} failed, whose step {step:,} it continues: {found.cause}"
    return "waiting", f"for step {step:,} of {parent.name}"


def _birth(folder: pathlib.Path) -> tuple[pathlib.Path, int] | None:
    """(folder, step) of the checkpoint that a branch continues; None for another run."""
    try:
        branch_from = stored_values(folder / "config.json")["branch_from"]
        return named_point(branch_from, folder) if branch_from else None
    except (UserError, AttributeError):  # said by the process that trains
        return None


def _broken_result(folder: pathlib.Path) -> str:
    """What is wrong with result.json; "" if it is missing or a result of this run."""
    path = folder / FILE_NAME
    if not path.exists():
        return ""
    try:
        result = read_result(path)
    except UserError as error:
        return str(error)
    return f"{path}: is the result of {result.run_id}" if result.run_id != folder.name else ""


def states_of(folders: Sequence[pathlib.Path], in_queue: dict[pathlib.Path, str]) -> dict[pathlib.Path, RunState]:
    """`state_of` for every folder."""
    return {folder: state_of(folder, in_queue) for folder in folders}


def pace_of(jobs: Sequence[Job], states: dict[pathlib.Path, RunState]) -> Pace:
    """The measurements from which `seconds_left` estimates the remaining time."""
    known, running, waiting = [], [], []
    for job in jobs:
        run = states[job.folder]
        if run.result is not None:
            known.append((run.result.wall_seconds, job.flops))
        elif run.state == "running":
            running.append((run.seconds, run.metrics.get("seconds_left"), job.flops))
        elif run.state in ("submitted", "waiting"):
            waiting.append(job.flops)
    return Pace(known, running, waiting)


def counts(jobs: Sequence[Job], states: dict[pathlib.Path, RunState]) -> str:
    """One line: how many runs are in each state, and the estimated time left."""
    found = [run.state for run in states.values()]
    names = ("done", "running", "failed", "stopped", "cancelled", "submitted", "waiting")
    line = ", ".join(f"{found.count(name)} {name}" for name in names if name in found)
    left = seconds_left(pace_of(jobs, states)) if "running" in found or "waiting" in found else None
    return line + (f"; about {clock(left)} to go" if left else "")


def status_table(jobs: Sequence[Job], states: dict[pathlib.Path, RunState]) -> Table:
    """A table of the runs in `states`, with the cause of each failure or stop."""
    table = Table("run", "state", "attempts", "step", "loss", "validation", "left", "cause", box=None, pad_edge=False)
    for job in jobs:
        if (run := states.get(job.folder)) is None:
            continue
        left = run.metrics.get("seconds_left") if run.state == "running" else None
        table.add_row(
            job.folder.name,
            run.state,
            str(run.attempts or ""),
            f"{run.metrics['step']:,} / {job.steps:,}" if run.metrics else "",
            f"{run.metrics['loss']:.4f}" if run.metrics else "",
            f"{run.result.loss:.4f} ± {run.result.loss_standard_error:.4f}" if run.result else "",
            clock(left) if left is not None else "",
            run.cause,
        )
    return table


def watch(
    jobs: Sequence[Job],
    until: Callable[[dict, bool], bool],
    console: Console,
    submit: Callable[[], bool] = lambda: False,
) -> bool:
    """Shows the states of runs until a condition holds: a table in a terminal, lines elsewhere.

    Args:
        jobs: The runs.
        until: (states, whether the scheduler answered) -> whether to end.
        console: The console to print to.
        submit: Submits what can be submitted since its last call, and says whether there was anything.

    Returns:
        Whether the condition held; False after Ctrl-C.
    """
    folders, in_queue, answered, states = [job.folder for job in jobs], {}, False, {}
    queried, printed, last_line = -QUEUE_SECONDS, -LINE_SECONDS, ""
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or contextlib.nullcontext(), contextlib.suppress(KeyboardInterrupt):
        while True:
            if time.monotonic() - queried > QUEUE_SECONDS:
                found, queried = slurm.queued(folders), time.monotonic()
                answered, in_queue = found is not None, in_queue if found is None else found
            done = {folder for folder, run in states.items() if run.state == "done"}  # final
            states |= states_of([folder for folder in folders if folder not in done], in_queue)
            line = counts(jobs, states)
            if live:
                news = {folder: run for folder, run in states.items() if run.state not in ("done", "waiting")}
                live.update(Group(status_table(jobs, news), line), refresh=True)
            elif line.partition(";")[0] != last_line or time.monotonic() - printed > LINE_SECONDS:
                last_line, printed = line.partition(";")[0], time.monotonic()
                console.print(Text(line), soft_wrap=True)
            if submit():
                queried = -QUEUE_SECONDS
            elif until(states, answered):
                return True
            time.sleep(LOOK_SECONDS)
    return False
