"""One run, from a config to result.json. Started again, it goes on from its last checkpoint."""

import math
import pathlib
import time
from contextlib import ExitStack

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Build, build
from mdlm_jax.evaluation.likelihood import Likelihood, evaluate
from mdlm_jax.scaling.result import Result, write_result
from mdlm_jax.training import checkpoint
from mdlm_jax.training.hardware import peak_flops
from mdlm_jax.training.metrics import open_writer, progress
from mdlm_jax.training.recipes import start_from
from mdlm_jax.training.run_folder import bits_per_byte, claim_folder, describe, finished
from mdlm_jax.training.sharding import RUNNERS, Runner
from mdlm_jax.training.signals import stop_requested
from mdlm_jax.training.step import State, make_train_step


class RunFailed(Exception):
    """Training can not go on; says at which step, why, and what is left."""


def train(config: ConfigDict, folder: pathlib.Path) -> Result | None:
    """Trains until the last step and writes result.json; None where a signal ended it, its state saved.

    A run that fails leaves a result.json with its cause. Raises UserError for a config that can not be run, or that
    differs from the one the folder was started with.
    """
    built = build(config)
    claim_folder(config, folder)
    if (before := finished(folder)) is not None:
        return before
    started, found, compile_seconds, cause = time.perf_counter(), None, 0.0, ""
    try:
        ended = _run(config, built, folder)
        if ended is None:
            return None
        found, compile_seconds = ended
    except RunFailed as failure:
        cause = str(failure)
    result = describe(config, built, folder, found, time.perf_counter() - started, compile_seconds, cause)
    if jax.process_index() == 0:
        write_result(folder, result)
    return result


def _run(config: ConfigDict, built: Build, folder: pathlib.Path) -> tuple[Likelihood, float] | None:
    """(validation at the end, seconds of the first step), or None where it was told to stop."""
    settings, steps, flops_per_step = config.train, built.plan.steps, built.plan.flops_per_step.exact
    make_runner, axis_name = RUNNERS[settings.runner]
    train_step = make_train_step(built.model, built.objective, built.optimizer, built.options, axis_name)
    runner = make_runner(train_step, built.mesh)

    with ExitStack() as stack:
        checkpoints = stack.enter_context(checkpoint.open_checkpoints(folder / "checkpoints"))
        restored = checkpoint.restore(checkpoints, runner.abstract(built.make_state, *built.initial))
        if restored is None:
            start, state = 0, runner.init(built.make_state, *built.initial)
            if config.start_from:
                state = start_from(pathlib.Path(config.start_from), built, runner, state)
        else:
            start, state = restored[0], runner.scatter(restored[1])
        writer = stack.enter_context(open_writer(folder, settings.loggers, start))
        report = progress(steps, built.plan.tokens_per_step, flops_per_step, peak_flops())
        next(report)
        stop = stop_requested(checkpoints)
        waited = compile_seconds = 0.0

        def read(step: int, metrics: dict) -> None:
            """Waits for the metrics of a step; a loss that is not a number ends the run."""
            loss, gradient_norm = float(metrics["loss"]), float(metrics["gradient_norm"])
            finite = math.isfinite(loss) and math.isfinite(gradient_norm)
            if not finite and not built.options.skip_nonfinite:
                raise RunFailed(
                    f"step {step}: loss {loss}, gradient norm {gradient_norm}, peak learning rate {config.optim.lr:g}; "
                    f"last good checkpoint: {checkpoints.latest_step() or 'none'}"
                )
            if step % settings.log_every == 0 or step in (start + 1, steps):
                scalars = {"step": step, "flops": float(step) * flops_per_step, "loss": loss}
                scalars |= {"gradient_norm": gradient_norm, "data_wait_seconds": waited}
                writer.write(scalars | report.send((step, loss)))

        def validate(step: int) -> Likelihood:
            found = _validation(config, built, runner, state)
            if not math.isfinite(found.nats_per_token):
                raise RunFailed(f"step {step}: the validation loss is {found.nats_per_token}")
            writer.write(
                {
                    "step": step,
                    "flops": float(step) * flops_per_step,
                    "validation_loss": found.nats_per_token,
                    "validation_standard_error": found.standard_error,
                    "validation_perplexity": found.perplexity,
                    "bits_per_byte": bits_per_byte(found, built),
                }
            )
            return found

        batches, unread = built.data.batches(start), None
        for step in range(start + 1, steps + 1):
            clock = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - clock
            clock = time.perf_counter()
            state, metrics = runner.step(state, runner.place(batch))
            if step == start + 1:
                compile_seconds = time.perf_counter() - clock
            # one step behind, so that the device never waits for the host
            if unread is not None:
                read(*unread)
            unread = (step, metrics)
            stopping = stop(step)
            saving = stopping or step == steps or _due(settings.checkpoint_every, step)
            validating = step < steps and _due(settings.validate_every, step)
            if saving or validating:
                read(*unread)  # what is not finite is never saved
                unread = None
            if saving:
                checkpoint.save(checkpoints, step, runner.whole(state))
            if stopping and step < steps:
                checkpoints.wait_until_finished()
                writer.say(f"stopped at step {step:,} of {steps:,}, state saved; the same command goes on from there")
                return None
            if validating:
                validate(step)
        found = validate(steps)
    return found, compile_seconds


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _validation(config: ConfigDict, built: Build, runner: Runner, state: State) -> Likelihood:
    """The bound on the held-out rows, of the averaged weights where they are kept."""
    whole = runner.whole(state)
    return evaluate(
        built.model,
        built.objective,
        whole.ema if built.options.ema_decay else whole.params,
        whole.phi,
        built.data.validation,
        draws=config.eval.draws,
        batch_size=config.eval.batch_size,
        chunk=built.options.loss_chunk,
        mesh=None if config.train.runner == "pmap" else built.mesh,
    )
