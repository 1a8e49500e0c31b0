"""New runs from the weights of others: a public model as it is, or an autoregressive network that becomes diffusion."""

import os
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from mdlm_jax.config import override
from mdlm_jax.errors import UserError
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.model_config import config_of_model
from mdlm_jax.weights.source import holds_weights

# whole rows whose first token is given: no position predicts it
SHIFTED = {"objective.shift": True, "data.prompt_tokens": 1}
RECIPES = {
    # arXiv 2410.17891: attention opens position by position; the weighted masked loss
    "diffullama": {
        **SHIFTED,
        "objective.name": "masked",
        "objective.epsilon_convention": "smdm",
        "objective.epsilon": 1e-3,
        "objective.anneal_steps": 10_000,
    },
    # arXiv 2508.15487: full attention at once; masked tokens weighted by the visible ones around them
    "dream": {**SHIFTED, "objective.name": "masked_plain", "objective.context_rate": 0.3},
    # arXiv 2510.06303: no shift, one noise level for all blocks of a row, the weighted masked loss
    "sdar": {
        "objective.name": "masked",
        "objective.epsilon_convention": "smdm",
        "objective.epsilon": 1e-3,
        "objective.block_size": 4,
        "objective.block_shared_level": True,
    },
    # arXiv 2509.26328: a position still predicts the token after the one it reads; a view and its complement; the plain
    # mean over masked tokens
    "fastdllm_v2": {
        "objective.name": "masked_plain",
        "objective.complementary": True,
        "objective.block_size": 32,
        "objective.block_shift": True,
    },
}


def recipe_config(folder: pathlib.Path, recipe: str, overrides: Sequence[str]) -> ConfigDict:
    """The config of a diffusion run that a recipe makes of an autoregressive network.

    Args:
        folder: An autoregressive run's, or a public model's.
        recipe: A key of RECIPES.
        overrides: `--config.key=value`, applied last.

    Raises:
        UserError: The recipe is unknown, the network is not autoregressive or has no checkpoint, or an override is
            invalid.
    """
    if recipe not in RECIPES:
        raise UserError(f"--recipe={recipe}; accepted: {', '.join(RECIPES)}")
    public = holds_weights(folder)
    config = config_of_model(folder) if public else config_of_run(folder)
    if config.objective.name != "ar":
        raise UserError(f"--from={folder}: objective {config.objective.name}; accepted: an autoregressive network")
    if not public and not any((folder / "checkpoints").glob("*")):
        raise UserError(f"--from={folder}: no checkpoint; accepted: a run that has saved one")
    config.data.extra_token = False  # the token after a row is no target any more
    flat = [f"--config.{key}={value}" for key, value in RECIPES[recipe].items()]
    return override(override(config, [f"--config.start_from={os.path.abspath(folder)}", *flat]), overrides)


def model_config(folder: pathlib.Path, overrides: Sequence[str]) -> ConfigDict:
    """The config of a run that fine-tunes a public model.

    Args:
        folder: The public model's.
        overrides: `--config.key=value`, what to train it on, and whatever else differs.

    Raises:
        UserError: It is no public model that can be trained here, or an override is invalid.
    """
    if not holds_weights(folder):
        raise UserError(f"--from={folder} without --recipe; accepted: the folder of a public model")
    return override(config_of_model(folder), overrides)


def branch_config(point: str, overrides: Sequence[str]) -> ConfigDict:
    """The config of a run that continues a checkpoint of another.

    Args:
        point: FOLDER@STEP.
        overrides: `--config.key=value`, what the branch changes.

    Raises:
        UserError: There is no such checkpoint, or an override is invalid.
    """
    folder, _, step = point.rpartition("@")
    if not folder or not step.isdigit():
        raise UserError(f"--branch={point}; accepted: RUN@STEP, a run's folder and the step of one of its checkpoints")
    config = config_of_run(pathlib.Path(folder))
    config.start_from = ""  # that key describes the parent's own start
    return override(config, [f"--config.branch_from={os.path.abspath(folder)}@{step}", *overrides])
