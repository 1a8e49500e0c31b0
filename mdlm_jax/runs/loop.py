"""Runs, from configs to result.json. An interrupted run resumes automatically from its last checkpoint."""

import pathlib
import time
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Build, build
from mdlm_jax.costs.hardware import peak_of_devices
from mdlm_jax.models.attention import check_backend
from mdlm_jax.models.float8 import check_float8
from mdlm_jax.runs.exhausted import one_line_on_exhaustion
from mdlm_jax.runs.extension import extend, with_schedule
from mdlm_jax.runs.finished import finished
from mdlm_jax.runs.fresh import refuse_lost, set_aside
from mdlm_jax.runs.hold import hold
from mdlm_jax.runs.inputs import keep_inputs
from mdlm_jax.runs.lineage import check_parent, keep_lineage
from mdlm_jax.runs.population import alone, populations, together
from mdlm_jax.runs.programs import FUNCTIONS, Compiled, Programs, shared
from mdlm_jax.runs.result import Result, write_result
from mdlm_jax.runs.rewind import BadLoss, RunFailed, go_back, read_rewinds
from mdlm_jax.runs.run_folder import claim_folder, describe
from mdlm_jax.runs.same_run import check_folder
from mdlm_jax.runs.say import doing, say
from mdlm_jax.runs.steps import Ended, Member, take_steps
from mdlm_jax.training.sharding import RUNNERS
from mdlm_jax.training.step import make_train_step


def train(config: ConfigDict, folder: pathlib.Path, *, fresh: bool = False, extension: str = "") -> Result | None:
    """Trains until the last step and writes result.json.

    Args:
        config: What to train. In a folder that holds the run already, only how it is executed may differ.
        folder: The run's folder.
        fresh: Set aside what the folder holds, and train from step 0.
        extension: Extend the run to the length of `config`; `hold` or `replan` is what its learning rate does then.

    Returns:
        The result, even if the run failed; None if a signal ended it after its state was saved.

    Raises:
        UserError: The config cannot be run, or the folder holds another run, is being trained by another process, or
            cannot be written.
    """
    if extension:
        extend(config, folder, extension)
    return train_all([config], [folder], fresh=fresh)[0]


def train_all(
    configs: Sequence[ConfigDict],
    folders: Sequence[pathlib.Path],
    *,
    fresh: bool = False,
    programs: Programs | None = None,
) -> list[Result | None]:
    """Trains several runs. Those that can share a program run together, and groups run one after another.

    A signal ends all of them.

    Args:
        configs: One for each run.
        folders: One for each run.
        fresh: As in `train`.
        programs: Programs of earlier runs of this process, which runs of equal shape use again; it is updated.

    Returns:
        The result of each run, as in `train`; None for runs that did not start.

    Raises:
        UserError: As in `train`.
    """
    programs = {} if programs is None else programs
    results: list[Result | None] = [None] * len(configs)
    for config, folder in zip(configs, folders, strict=True):
        check_folder(config, folder)
        check_parent(config, folder)
    groups = populations(configs, folders) if len(configs) > 1 else [[0]]
    for group in groups:
        found = _train([configs[i] for i in group], [folders[i] for i in group], fresh, programs)
        for number, result in zip(group, found, strict=True):
            results[number] = result
        if any(results[number] is None for number in group):
            break
    return results


def _train(
    configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path], fresh: bool, programs: Programs
) -> list[Result | None]:
    """Trains runs that are one program."""
    with doing("opening the data"):
        devices = jax.devices()[:1] if len(configs) > 1 else None  # several runs are stepped on one device each
        members = [Member(it, build(it, devices), folder) for it, folder in zip(configs, folders, strict=True)]
    for config, built, _ in members:
        if config.train.float8:
            check_float8(jax.devices()[0])
        check_backend(config.train.attention, jax.default_backend(), built.plan.positions)
    for config, folder in zip(configs, folders, strict=True):
        claim_folder(config, folder)
    results = [None if fresh else finished(folder) for folder in folders]
    left = [number for number, result in enumerate(results) if result is None]
    if not left:
        return results
    started = time.perf_counter()
    config, built, _ = members[left[0]]
    compiled = shared(programs, config, built, len(left), lambda: _compiled(config, built, len(left)))
    members = [it._replace(built=it.built._replace(**compiled.functions)) for it in members]
    with one_line_on_exhaustion(folders[left[0]]), hold([folders[number] for number in left]) as outcomes:
        for number in left:
            members[number] = _prepared(members[number], fresh)
        for number, ended in zip(left, _run([members[number] for number in left], compiled), strict=True):
            if not ended.found and not ended.cause:
                continue
            seconds, (config, built, folder) = time.perf_counter() - started, members[number]
            result = describe(config, built, folder, ended.found, seconds, ended.compile_seconds, ended.cause)
            results[number], outcomes[folder] = result, (result.status, result.cause)
            if jax.process_index() == 0:
                write_result(folder, result)
    return results


def _compiled(config: ConfigDict, built: Build, num_members: int) -> Compiled:
    make_runner, axis_name = RUNNERS[config.train.runner]
    train_step = make_train_step(built.model, built.objective, built.optimizer, built.options, axis_name)
    runner = make_runner(train_step, built.mesh)
    program = together(train_step, num_members) if num_members > 1 else alone(runner)
    return Compiled({name: getattr(built, name) for name in FUNCTIONS}, runner, program)


def _prepared(member: Member, fresh: bool) -> Member:
    """Prepares the held folder of a member: its config, inputs and lineage."""
    config, built, folder = member
    claim_folder(config, folder)  # again: another process may have been here before this one held the folder
    if jax.process_index() == 0:
        if fresh and (aside := set_aside(folder)) is not None:
            say(f"what was in {folder} is in {aside} now; training starts at step 0")
        refuse_lost(folder)
    keep_inputs(config, folder, built)
    keep_lineage(config, folder)
    return member._replace(built=with_schedule(config, folder, built))


def _run(members: Sequence[Member], compiled: Compiled) -> list[Ended]:
    """Takes all steps. A run that is alone may rewind and continue."""
    config, built, folder = members[0]
    runner, program, peak = compiled.runner, compiled.program, peak_of_devices()
    if len(members) > 1:
        return take_steps(members, runner, program, peak, [])
    rewinds = read_rewinds(folder)
    try:
        while True:
            try:
                return take_steps(members, runner, program, peak, rewinds)
            except BadLoss as bad:
                rewinds = go_back(config, folder, rewinds, bad, built.plan.steps, built.data.max_steps)
    except RunFailed as failure:
        return [Ended(cause=str(failure))]
