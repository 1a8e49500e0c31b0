"""Runs, from configs to result.json. Started again, they go on from their last checkpoints."""

import pathlib
import time
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import build
from mdlm_jax.costs.hardware import peak_flops
from mdlm_jax.models.attention import check_backend
from mdlm_jax.models.float8 import check_float8
from mdlm_jax.runs.disk import told_plainly
from mdlm_jax.runs.inputs import keep_inputs
from mdlm_jax.runs.population import alone, populations, together
from mdlm_jax.runs.result import Result, write_result
from mdlm_jax.runs.rewind import BadLoss, RunFailed, go_back, read_rewinds
from mdlm_jax.runs.run_folder import claim_folder, describe, finished
from mdlm_jax.runs.steps import Ended, Member, take_steps
from mdlm_jax.training.sharding import RUNNERS
from mdlm_jax.training.step import make_train_step


def train(config: ConfigDict, folder: pathlib.Path) -> Result | None:
    """Trains until the last step and writes result.json; None where a signal ended it, its state saved.

    A run that fails leaves a result.json with its cause. Raises UserError for a config that can not be run, or that
    differs from the one the folder was started with, and where the folder can not be written.
    """
    return train_all([config], [folder])[0]


def train_all(configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path]) -> list[Result | None]:
    """The same for several runs: those that can be are one program, the others follow. A signal ends all of them."""
    results: list[Result | None] = [None] * len(configs)
    groups = populations(configs, folders) if len(configs) > 1 else [[0]]
    for group in groups:
        for number, result in zip(group, _train([configs[i] for i in group], [folders[i] for i in group]), strict=True):
            results[number] = result
        if any(results[number] is None for number in group):
            break
    return results


def _train(configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path]) -> list[Result | None]:
    """Of one program."""
    members = _members(configs, folders)
    for member in members:
        if member.config.train.float8:
            check_float8(jax.devices()[0])
        check_backend(member.config.train.attention, jax.default_backend(), member.built.plan.positions)
        claim_folder(member.config, member.folder)
        keep_inputs(member.config, member.folder, member.built)
    results = [finished(member.folder) for member in members]
    left = [number for number, result in enumerate(results) if result is None]
    if not left:
        return results
    started = time.perf_counter()
    with told_plainly(members[left[0]].folder):
        for number, ended in zip(left, _run([members[number] for number in left]), strict=True):
            if not ended.found and not ended.cause:
                continue
            seconds, (config, built, folder) = time.perf_counter() - started, members[number]
            result = describe(config, built, folder, ended.found, seconds, ended.compile_seconds, ended.cause)
            results[number] = result
            if jax.process_index() == 0:
                write_result(folder, result)
    return results


def _members(configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path]) -> list[Member]:
    """Several have one network, so that each thing is compiled once, and are spread over devices, each on one."""
    devices = jax.devices()[:1] if len(configs) > 1 else None
    first, *others = [build(config, devices) for config in configs]
    shared = {
        name: getattr(first, name) for name in ("model", "validation_model", "objective", "optimizer", "make_state")
    }
    built = [first, *(other._replace(**shared) for other in others)]
    return [Member(*one) for one in zip(configs, built, folders, strict=True)]


def _run(members: Sequence[Member]) -> list[Ended]:
    """All steps, with as many rewinds as a run alone needs."""
    config, built, folder = members[0]
    make_runner, axis_name = RUNNERS[config.train.runner]
    train_step = make_train_step(built.model, built.objective, built.optimizer, built.options, axis_name)
    runner, peak = make_runner(train_step, built.mesh), peak_flops()
    if len(members) > 1:
        return take_steps(members, runner, together(train_step, len(members)), peak, [])
    rewinds = read_rewinds(folder)
    try:
        while True:
            try:
                return take_steps(members, runner, alone(runner), peak, rewinds)
            except BadLoss as bad:
                rewinds = go_back(config, folder, rewinds, bad, built.plan.steps, built.data.max_steps)
    except RunFailed as failure:
        return [Ended(cause=str(failure))]
