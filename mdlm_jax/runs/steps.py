"""The loop over steps, for one run or several as one program: data, metrics, checkpoints, signals."""

import math
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.configs.relations import checkpoint_steps
from mdlm_jax.costs.hardware import Peak
from mdlm_jax.evaluation.likelihood import Likelihood, evaluate
from mdlm_jax.runs import checkpoint
from mdlm_jax.runs.dispatches import Taken, agreed, reader
from mdlm_jax.runs.execution import record_execution
from mdlm_jax.runs.exhausted import one_line_on_exhaustion
from mdlm_jax.runs.first_state import first_state
from mdlm_jax.runs.peers import end_together
from mdlm_jax.runs.population import Program
from mdlm_jax.runs.reporting import Report, open_report
from mdlm_jax.runs.rewind import BadLoss, Rewind, RunFailed, batches, cause_of, num_kept
from mdlm_jax.runs.say import doing
from mdlm_jax.runs.signals import stop_requested
from mdlm_jax.training.evaluated import evaluated
from mdlm_jax.training.sharding import Runner
from mdlm_jax.training.step import State


class Member(NamedTuple):
    """One of the runs that are stepped together."""

    config: ConfigDict
    built: Build
    folder: pathlib.Path


class Ended(NamedTuple):
    """How a run ended: with a likelihood, with a cause of failure, or with neither if a signal ended it."""

    found: Likelihood | None = None  # validation at the end
    compile_seconds: float = 0.0  # of the first step
    cause: str = ""  # of a failure


def take_steps(
    members: Sequence[Member], runner: Runner, program: Program, peak: Peak, rewinds: Sequence[Rewind]
) -> list[Ended]:
    """Trains from the newest checkpoint to the last step.

    Args:
        members: The runs, which share a program.
        runner: Runs one member by itself.
        program: Steps all members together.
        peak: FLOP/s that all devices can reach together.
        rewinds: The rewinds of a single run.

    Raises:
        BadLoss: A single run has a bad step that is not skipped. One of several runs ends there, the others continue.
        RunFailed: A single run cannot continue.
    """
    config = members[0].config
    kept = config.train.checkpoint_every, num_kept(config), checkpoint_steps(config)
    with ExitStack() as stack:
        saved = [stack.enter_context(checkpoint.open_checkpoints(it.folder / "checkpoints", *kept)) for it in members]
        first = [
            first_state(it.config, it.built, runner, it.folder, own) for it, own in zip(members, saved, strict=True)
        ]
        start, state = first[0][0], program.join([state for _, state in first])
        del first
        for it in members if jax.process_index() == 0 else ():
            record_execution(it.config, it.folder, start)
        reports = [
            stack.enter_context(open_report(*it, start=start, peak=peak, shown=it is members[0])) for it in members
        ]
        # entered last, so that it ends the process before anything is closed
        stack.enter_context(end_together())
        stack.enter_context(one_line_on_exhaustion(members[0].folder))
        arriving = [batches(it.built.data.batches, rewinds, start) for it in members]
        group = _Group(members, program, saved, reports, {})
        return _steps(group, start, state, arriving)


class _Group(NamedTuple):
    """Members that are stepped together, with what each writes to."""

    members: Sequence[Member]
    program: Program
    checkpoints: Sequence[ocp.CheckpointManager]
    reports: Sequence[Report]
    ended: dict[int, Ended]  # by number of the member

    def each(self, act: Callable[[int], Any]) -> None:
        """Acts for every member that has not ended; one of several that fails ends, and the others continue."""
        for i in [i for i in range(len(self.members)) if i not in self.ended]:
            try:
                act(i)
            except (BadLoss, RunFailed) as failure:
                if len(self.members) == 1:
                    raise
                folder = self.members[i].folder
                self.checkpoints[i].wait_until_finished()  # the cause names the last one that is whole
                self.ended[i] = Ended(cause=cause_of(failure, folder))
                self.reports[i].say(f"{folder.name}: {self.ended[i].cause}; the other runs continue")

    def report(self, taken: Taken) -> None:
        """Reports every step of a dispatch."""

        def act(i: int) -> None:
            metrics = self.program.metrics(taken.metrics, i)
            for number in range(taken.count):
                own = {name: values[number] for name, values in metrics.items()}
                self.reports[i].step(taken.before + 1 + number, own | taken.clocks, taken.ended)

        self.each(act)

    def save(self, step: int, state: Any) -> None:
        """Starts saving the state."""
        self.each(lambda i: checkpoint.save(self.checkpoints[i], step, self.program.member(state, i)))

    def validate(self, i: int, step: int, state: Any) -> Likelihood:
        """The bound of one member on its held-out rows. Raises RunFailed if it is not finite."""
        found = _validation(self.members[i], self.program.member(state, i), step)
        self.reports[i].validation(step, found)
        return found


def _steps(group: _Group, start: int, state: Any, arriving: Sequence[Iterator]) -> list[Ended]:
    """Steps until the last one, until a signal, or until all members have failed, and validates those at the end."""
    with stop_requested(group.checkpoints[0]) as stop:
        step, state, compile_seconds, stopped = _until_stopped(group, start, state, arriving, stop)
    if stopped:
        return [group.ended.get(i, Ended()) for i in range(len(group.members))]

    def finish(i: int) -> None:
        group.ended[i] = Ended(group.validate(i, step, state), compile_seconds)

    with doing("validating"):
        group.each(finish)
    return [group.ended[i] for i in range(len(group.members))]


def _until_stopped(
    group: _Group, start: int, state: Any, arriving: Sequence[Iterator], stop: Callable[[int], bool]
) -> tuple[int, Any, float, bool]:
    """(the last step, the state after it, seconds of compilation, whether a signal ended the run before its end)."""
    settings, steps = group.members[0].config.train, group.members[0].built.plan.steps
    every = settings.log_every, settings.validate_every, settings.checkpoint_every
    at = checkpoint_steps(group.members[0].config)
    read = reader(arriving, group.program.place, steps, every, at)
    step, seconds, unread, waited, compile_seconds = start, math.inf, None, 0.0, 0.0
    dispatch = read(step, seconds) if step < steps else None
    while dispatch is not None:
        begun, first = time.perf_counter(), step == start
        with doing("compiling the train step") if first else nullcontext():
            state, metrics = group.program.steps(state, dispatch.batches, np.int32(dispatch.count))
        if first:
            compile_seconds = time.perf_counter() - begun
        # the device is busy: the host reports the last dispatch and reads the next
        if unread is not None:
            group.report(unread)
        taken, step, waited = dispatch, step + dispatch.count, waited + dispatch.waited
        dispatch = read(step, seconds) if step < steps else None
        clocks = {"data_wait_seconds": waited, "compile_seconds": compile_seconds}
        unread = Taken(taken.before, taken.count, jax.device_get(metrics), clocks, time.perf_counter())
        seconds = math.inf if first else agreed((unread.ended - begun) / taken.count)
        # of several processes, each must ask for every step
        stopping = any([stop(number) for number in range(taken.before + 1, step + 1)])
        saving = stopping or step == steps or _due(settings.checkpoint_every, step) or step in at
        validating = step < steps and _due(settings.validate_every, step)
        if saving or validating:
            group.report(unread)  # before it is saved: a bad step never is
            unread = None
        if saving:
            group.save(step, state)
        if len(group.ended) == len(group.members):
            break
        if stopping and step < steps:
            for saved in group.checkpoints:
                saved.wait_until_finished()
            group.reports[0].say(f"stopped at step {step:,} of {steps:,}, state saved; the same command resumes there")
            return step, state, compile_seconds, True
        if validating:
            number, now = step, state
            group.each(lambda i: group.validate(i, number, now))  # noqa: B023

    return step, state, compile_seconds, False


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _validation(member: Member, whole: State, step: int) -> Likelihood:
    """The bound on the held-out rows, for the averaged weights if there are any. Raises RunFailed if not finite."""
    config, built, _ = member
    found = evaluate(
        built.validation_model,
        built.objective,
        *evaluated(whole),
        built.data.validation,
        draws=config.eval.draws,
        batch_size=config.eval.batch_size,
        chunk=built.options.loss_chunk,
        mesh=None if config.train.runner == "pmap" else built.mesh,
    )
    if not math.isfinite(found.nats_per_token):
        raise RunFailed(f"step {step}: the validation loss is {found.nats_per_token}")
    return found
