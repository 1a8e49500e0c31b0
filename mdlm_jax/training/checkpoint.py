"""Checkpoints by Orbax: the state and, because data is `batch(step)`, with its step the place in the data."""

import pathlib

import jax
import orbax.checkpoint as ocp
from absl import logging

from mdlm_jax.errors import UserError
from mdlm_jax.training.sharding import shapes
from mdlm_jax.training.step import State

logging.set_verbosity(logging.ERROR)


def open_checkpoints(folder: pathlib.Path, keep: int = 2) -> ocp.CheckpointManager:
    """Saved asynchronously, whole or not at all; the last `keep` stay."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
    return ocp.CheckpointManager(folder.resolve(), options=options)


def save(checkpoints: ocp.CheckpointManager, step: int, state: State) -> None:
    """Starts saving; training goes on."""
    if checkpoints.latest_step() != step:
        checkpoints.save(step, args=ocp.args.StandardSave(state))


def restore(checkpoints: ocp.CheckpointManager, abstract: State) -> tuple[int, State] | None:
    """(step, state) of the newest checkpoint, laid out as `abstract` says, on however many devices. None where none is.

    Raises UserError where the checkpoint is of another network.
    """
    step = checkpoints.latest_step()
    if step is None:
        return None
    try:
        return step, checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
    except ValueError as error:
        raise UserError(
            f"{checkpoints.directory}/{step}: does not fit this config ({error})".splitlines()[0]
        ) from error


def restore_on_one_device(folder: pathlib.Path, state: State) -> tuple[int, State]:
    """(step, state) of a run's newest checkpoint, for evaluation and sampling; `state` gives the shapes."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no checkpoints; accepted: a run that has saved one")
    with open_checkpoints(folder) as checkpoints:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        restored = restore(checkpoints, shapes(state, device))
    if restored is None:
        raise UserError(f"{folder}: no checkpoint; accepted: a run that has saved one")
    return restored
