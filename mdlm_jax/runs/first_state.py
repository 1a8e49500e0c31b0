"""The state that training starts from: a run's newest checkpoint, its parent's, or the state before the first step."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.runs import checkpoint
from mdlm_jax.runs.donor import start_from
from mdlm_jax.runs.lineage import branch_point
from mdlm_jax.runs.saved import check_config
from mdlm_jax.training.sharding import Runner
from mdlm_jax.training.step import State


def first_state(
    config: ConfigDict, built: Build, runner: Runner, folder: pathlib.Path, checkpoints: ocp.CheckpointManager
) -> tuple[int, State]:
    """(steps taken, state) of a run, placed as its runner needs it.

    Raises:
        UserError: A checkpoint is damaged or belongs to another network, or the parent is missing.
    """
    step = checkpoints.latest_step()
    if step is None and not config.branch_from:
        state = runner.init(built.make_state, *built.initial)
        return 0, start_from(pathlib.Path(config.start_from), built, runner, state) if config.start_from else state
    abstract = runner.abstract(built.make_state, *built.initial)
    if step is not None:
        check_config(folder, step)
        state = checkpoint.restore(checkpoints, step, abstract)
    else:
        parent, step = branch_point(config, folder)
        state = checkpoint.restore_step(parent / "checkpoints", step, abstract)
    return step, runner.scatter(_with_hyperparameters(state, built.initial[1]))


def _with_hyperparameters(state: State, numbers: dict[str, Any]) -> State:
    """The state with the learning rate, decay and schedule of the config: a branch or an extension may change them."""
    # copied, because a step donates the state and a rewind reads the hyperparameters again
    copies = jax.tree.map(np.array, numbers)
    placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), copies, state.opt_state.hyperparams)
    return state._replace(opt_state=state.opt_state._replace(hyperparams=placed))
