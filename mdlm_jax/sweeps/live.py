"""The live display of a sweep: a table that updates in a terminal, plain lines elsewhere."""

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mdlm_jax.runs.say import clock
from mdlm_jax.sweeps.launch import Ended, Snapshot
from mdlm_jax.sweeps.work import LOG_NAME, tail

REFRESH_SECONDS = 0.5
LINE_EVERY_SECONDS = 60  # without a terminal
LOG_LINES = 15


def last_metrics(folder: pathlib.Path) -> dict[str, Any]:
    """The last training line of metrics.jsonl (step, loss, seconds_left and more); {} if there is none yet."""
    for line in reversed(tail(folder / "metrics.jsonl", 4096)):
        with contextlib.suppress(ValueError, RecursionError):
            metrics = json.loads(line)
            if isinstance(metrics, dict) and all(_is_finite(metrics.get(name)) for name in ("step", "loss")):
                left = metrics.get("seconds_left")
                return metrics if _is_finite(left) else {"step": metrics["step"], "loss": metrics["loss"]}
    return {}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


class Pace(NamedTuple):
    """The measurements from which the remaining time of a sweep is estimated."""

    known: list[tuple[float, float]]  # seconds, FLOPs of runs that are done
    running: list[tuple[float, float | None, float]]  # seconds so far, seconds left (None: unknown), FLOPs
    waiting: list[float]  # FLOPs of runs that have not started


def seconds_left(pace: Pace) -> float | None:
    """Estimated seconds until the last run ends, from the seconds per FLOP so far; None without any measurement."""
    known = pace.known + [(so_far + left, flops) for so_far, left, flops in pace.running if left is not None]
    if not known:
        return None
    rate = sum(seconds for seconds, _ in known) / sum(flops for _, flops in known)
    left = [max(flops * rate - so_far, 0.0) if it is None else it for so_far, it, flops in pace.running]
    return max([*left, (sum(left) + rate * sum(pace.waiting)) / max(len(left), 1)])


def pace_of_pool(pool: Snapshot, now: float) -> Pace:
    """The pace of the runs that this pool trained itself."""
    return Pace(
        [(run.seconds, run.job.flops) for run in pool.ended if run.outcome == "done" and run.seconds],
        [
            (now - run.started, last_metrics(run.job.folder).get("seconds_left"), run.job.total_flops)
            for run in pool.running
        ],
        [job.total_flops for job in pool.waiting],
    )


def _counts(pool: Snapshot, already_done: int) -> str:
    failed = sum(run.outcome == "failed" for run in pool.ended)
    done = already_done + sum(run.outcome == "done" for run in pool.ended)
    running = sum(len(run.job.together) for run in pool.running)
    waiting = sum(len(job.together) for job in pool.waiting)
    left = seconds_left(pace_of_pool(pool, time.monotonic()))
    return (
        f"{done} done, {running} running, {failed} failed, {waiting} left"
        + (f", about {clock(left)} to go" if left is not None else "")
        + ("; stopping, the runs save their state" if pool.stopping else "")
    )


def _view(pool: Snapshot, already_done: int) -> Group:
    table = Table("running", "step", "loss", "left", box=None, padding=(0, 2, 0, 0))
    for run in pool.running:
        metrics = last_metrics(run.job.folder)
        step = f"{metrics['step']:,} / {run.job.steps:,}" if metrics else "starting"
        loss = f"{metrics['loss']:.4f}" if metrics else ""
        left = clock(metrics["seconds_left"]) if "seconds_left" in metrics else ""
        name = run.job.folder.name + (f" and {len(run.job.mates)} with it" if run.job.mates else "")
        table.add_row(name, step, loss, left)
    return Group(table, _counts(pool, already_done))


def describe_end(run: Ended) -> str:
    """One line about a run that ended, and for a failure also the last lines of its log."""
    name = run.job.folder.name
    if run.outcome != "failed":
        return f"{run.outcome:8} {name}" + (f"  {clock(run.seconds)}" if run.seconds else "  by another sweep")
    lines = tail(run.job.folder / LOG_NAME, 8192)[-LOG_LINES:]
    log = f"; the end of {run.job.folder / LOG_NAME}:" if lines else ""
    return "\n".join([f"failed   {name}: {run.cause}{log}"] + [f"  | {line}" for line in lines])


@contextlib.contextmanager
def display(already_done: int, console: Console) -> Iterator[Callable[[Snapshot], None]]:
    """Yields the function to pass to `launch.run_pool` as `watch`.

    Args:
        already_done: Runs that were done before the pool started.
        console: The console to draw on.
    """
    printed, shown, seen = 0, 0.0, None
    live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def watch(pool: Snapshot) -> None:
        nonlocal printed, shown, seen
        for run in pool.ended[printed:]:
            console.print(Text(describe_end(run)), soft_wrap=True)
        printed, news = len(pool.ended), (len(pool.ended), pool.stopping)
        if news != seen or time.monotonic() - shown > (REFRESH_SECONDS if live else LINE_EVERY_SECONDS):
            seen, shown = news, time.monotonic()
            if live:
                live.update(_view(pool, already_done), refresh=True)
            else:
                console.print(Text(_counts(pool, already_done)), soft_wrap=True)

    with live or contextlib.nullcontext():
        yield watch
