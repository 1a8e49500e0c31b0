"""The loop over steps, of one run or of several as one program: data, metrics, checkpoints, being told to end."""

import math
import pathlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.evaluation.likelihood import Likelihood, evaluate
from mdlm_jax.runs import checkpoint
from mdlm_jax.runs.disk import told_plainly
from mdlm_jax.runs.peers import end_together
from mdlm_jax.runs.population import Program
from mdlm_jax.runs.recipes import start_from
from mdlm_jax.runs.report import open_report
from mdlm_jax.runs.rewind import BadLoss, Rewind, RunFailed, batches, cause_of, num_kept
from mdlm_jax.runs.signals import stop_requested
from mdlm_jax.training.sharding import Runner
from mdlm_jax.training.step import State


class Member(NamedTuple):
    """One run of those that are stepped together."""

    config: ConfigDict
    built: Build
    folder: pathlib.Path


class Ended(NamedTuple):
    found: Likelihood | None = None  # validation at the end; None where it was told to stop, or failed
    compile_seconds: float = 0.0  # of the first step
    cause: str = ""  # of a failure


def take_steps(
    members: Sequence[Member], runner: Runner, program: Program, peak: float, rewinds: Sequence[Rewind]
) -> list[Ended]:
    """From the newest checkpoint to the last step. `runner` is of a member by itself.

    Raises BadLoss for a step that is bad and not skipped, and RunFailed, where a run is alone. One of several ends
    there, and the others go on.
    """
    settings, steps = members[0].config.train, members[0].built.plan.steps
    kept = settings.checkpoint_every, num_kept(members[0].config)
    with ExitStack() as stack:
        checkpoints = [
            stack.enter_context(checkpoint.open_checkpoints(it.folder / "checkpoints", *kept)) for it in members
        ]
        first = [_first_state(it, runner, saved) for it, saved in zip(members, checkpoints, strict=True)]
        start, state = first[0][0], program.join([state for _, state in first])
        del first
        reports = [
            stack.enter_context(open_report(*it, start=start, peak=peak, shown=it is members[0])) for it in members
        ]
        # the last to be entered, so that it ends the process before anything is closed
        stack.enter_context(end_together())
        stack.enter_context(told_plainly(members[0].folder))
        stop = stop_requested(checkpoints[0])
        arriving = [batches(it.built.data.batches, rewinds, start) for it in members]
        ended: dict[int, Ended] = {}

        def each(act: Callable[[int], None]) -> None:
            """Acts for every member that goes on."""
            for i in [i for i in range(len(members)) if i not in ended]:
                try:
                    act(i)
                except (BadLoss, RunFailed) as failure:
                    if len(members) == 1:
                        raise
                    ended[i] = Ended(cause=cause_of(failure, members[i].folder))
                    reports[i].say(f"{members[i].folder.name}: {ended[i].cause}; the others go on")

        def tell(i: int) -> None:
            at, metrics, clocks = unread
            reports[i].step(at, program.metrics(metrics, i) | clocks)

        def save(i: int) -> None:
            checkpoint.save(checkpoints[i], step, program.member(state, i))

        def validate(i: int) -> Likelihood:
            found = _validation(members[i], program.member(state, i), step)
            reports[i].validation(step, found)
            return found

        def finish(i: int) -> None:
            ended[i] = Ended(validate(i), compile_seconds)

        waited = compile_seconds = 0.0
        step, unread = start, None
        for step in range(start + 1, steps + 1):
            clock = time.perf_counter()
            batch = [next(rows) for rows in arriving]
            waited += time.perf_counter() - clock
            clock = time.perf_counter()
            state, metrics = program.step(state, program.place(batch))
            if step == start + 1:
                compile_seconds = time.perf_counter() - clock
            # one step behind, so that the device never waits for the host
            if unread is not None:
                each(tell)
            unread = step, metrics, {"data_wait_seconds": waited, "compile_seconds": compile_seconds}
            stopping = stop(step)
            saving = stopping or step == steps or _due(settings.checkpoint_every, step)
            validating = step < steps and _due(settings.validate_every, step)
            if saving or validating:
                each(tell)  # what is bad is never saved
                unread = None
            if saving:
                each(save)
            if len(ended) == len(members):
                break
            if stopping and step < steps:
                for saved in checkpoints:
                    saved.wait_until_finished()
                reports[0].say(
                    f"stopped at step {step:,} of {steps:,}, state saved; the same command goes on from there"
                )
                return [ended.get(i, Ended()) for i in range(len(members))]
            if validating:
                each(validate)
        each(finish)
    return [ended[i] for i in range(len(members))]


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _first_state(member: Member, runner: Runner, checkpoints: ocp.CheckpointManager) -> tuple[int, State]:
    """(steps taken, state) of the newest checkpoint, or before the first step."""
    config, built, _ = member
    if (step := checkpoints.latest_step()) is not None:
        state = checkpoint.restore(checkpoints, step, runner.abstract(built.make_state, *built.initial))
        return step, runner.scatter(state)
    state = runner.init(built.make_state, *built.initial)
    return 0, start_from(pathlib.Path(config.start_from), built, runner, state) if config.start_from else state


def _validation(member: Member, whole: State, step: int) -> Likelihood:
    """The bound on the held-out rows, of the averaged weights where they are kept. Raises RunFailed for no number."""
    config, built, _ = member
    found = evaluate(
        built.validation_model,
        built.objective,
        whole.ema if built.options.ema_decay else whole.params,
        whole.objective_params,
        built.data.validation,
        draws=config.eval.draws,
        batch_size=config.eval.batch_size,
        chunk=built.options.loss_chunk,
        mesh=None if config.train.runner == "pmap" else built.mesh,
    )
    if not math.isfinite(found.nats_per_token):
        raise RunFailed(f"step {step}: the validation loss is {found.nats_per_token}")
    return found
