"""From an autoregressive run to one in blocks: its weights, under another objective."""

import os
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.config import override
from mdlm_jax.errors import UserError
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.restore import open_run
from mdlm_jax.training.sharding import Runner
from mdlm_jax.training.step import State
from mdlm_jax.weights.source import holds_weights

RECIPES = {
    # arXiv 2510.06303: no shift, one noise level for all of a sample, the masked loss with its weights
    "sdar": {
        "objective.name": "masked",
        "objective.epsilon_convention": "smdm",
        "objective.epsilon": 1e-3,
        "objective.block_size": 4,
        "objective.block_shared_level": True,
    },
    # arXiv 2509.26328: a position still predicts the token after the one it reads; both a view and its complement; the
    # plain mean over masked tokens
    "fastdllm_v2": {
        "objective.name": "masked_plain",
        "objective.complementary": True,
        "objective.block_size": 32,
        "objective.block_shift": True,
    },
}


def recipe_config(folder: pathlib.Path, recipe: str, overrides: Sequence[str]) -> ConfigDict:
    """The config of the run in `folder` with what the recipe changes, then with `--config.key=value` overrides.

    Raises UserError for a recipe that is none, a run that is not autoregressive or has saved no checkpoint, or an
    override that cannot be.
    """
    if recipe not in RECIPES:
        raise UserError(f"--recipe={recipe}; accepted: {', '.join(RECIPES)}")
    if holds_weights(folder):
        raise UserError(f"--from={folder}: a public model; accepted: a run that was trained here")
    config = config_of_run(folder)
    if config.objective.name != "ar" or config.data.extra_token:
        raise UserError(f"--from={folder}: objective {config.objective.name}; accepted: a run of ar that reads a start")
    if not any((folder / "checkpoints").glob("*")):
        raise UserError(f"--from={folder}: no checkpoint; accepted: a run that has saved one")
    flat = [f"--config.{key}={value}" for key, value in RECIPES[recipe].items()]
    return override(override(config, [f"--config.start_from={os.path.abspath(folder)}", *flat]), overrides)


def branch_config(point: str, overrides: Sequence[str]) -> ConfigDict:
    """The config of a run that continues a checkpoint of another.

    Args:
        point: FOLDER@STEP.
        overrides: `--config.key=value`, what the branch does otherwise.

    Raises:
        UserError: there is no such checkpoint, or an override cannot be.
    """
    folder, _, step = point.rpartition("@")
    if not folder or not step.isdigit():
        raise UserError(f"--branch={point}; accepted: RUN@STEP, a run's folder and the step of one of its checkpoints")
    config = config_of_run(pathlib.Path(folder))
    config.start_from = ""  # of the parent's own birth
    return override(config, [f"--config.branch_from={os.path.abspath(folder)}@{step}", *overrides])


def start_from(folder: pathlib.Path, built: Build, runner: Runner, state: State) -> State:
    """The initial state with the weights of another run's newest checkpoint (the averaged ones where it kept them).

    Raises UserError where there is none, or its network is another.
    """
    donor = open_run(folder)
    if donor.plan.architecture != built.plan.architecture:
        raise UserError(
            f"config.start_from={folder}: its network is {donor.plan.architecture}; "
            f"accepted: one of {built.plan.architecture}"
        )
    whole = runner.whole(state)
    params = jax.tree.map(lambda old, new: jax.device_put(new, old.sharding), whole.params, donor.params)
    ema = jax.tree.map(jnp.copy, params) if built.options.ema_decay else ()
    return runner.scatter(whole._replace(params=params, ema=ema))
