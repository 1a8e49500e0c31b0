"""Checkpoints by Orbax. They hold the state; its step also gives the position in the data."""

import pathlib
import shutil
from collections.abc import Sequence

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs import seal
from mdlm_jax.runs.saved import CONFIG, LAST_SAVED, UNFINISHED, has_digests, newest_whole, saved_steps
from mdlm_jax.runs.say import say
from mdlm_jax.training.sharding import shapes
from mdlm_jax.training.step import State

logging.set_verbosity(logging.FATAL)  # Orbax raises its errors; its log only repeats them


def open_checkpoints(
    folder: pathlib.Path, every: int = 0, num_every: int = 0, at: Sequence[int] = ()
) -> ocp.CheckpointManager:
    """Opens a run's checkpoints for training.

    Saving is asynchronous and atomic, and seals each checkpoint with digests. Damaged checkpoints are removed. The last
    two are kept, so that there is one to fall back on.

    Args:
        folder: The checkpoints'.
        every: Keep checkpoints at multiples of this step.
        num_every: How many of these checkpoints to keep (the newest).
        at: Steps whose checkpoints are kept, too.

    Raises:
        UserError: All checkpoints are damaged.
    """
    folder = folder.resolve()
    _drop_damaged(folder)

    def sealed() -> None:
        for unfinished in folder.glob(f"*{UNFINISHED}"):
            if (config := folder.parent / CONFIG).exists():
                shutil.copyfile(config, unfinished / CONFIG)
            seal.seal(unfinished)
            write_whole(folder.parent / LAST_SAVED, unfinished.name.partition(".")[0] + "\n")

    kept = [policies.LatestN(2), policies.CustomSteps(at)]
    if every and num_every:
        kept.append(policies.EveryNSteps(every, max_to_keep=num_every))
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        cleanup_tmp_directories=True,
        # called before the folder gets its final name, so that every checkpoint has digests
        async_options=ocp.AsyncOptions(post_finalization_callback=sealed),
    )
    return ocp.CheckpointManager(folder, options=options)


def save(checkpoints: ocp.CheckpointManager, step: int, state: State) -> None:
    """Starts saving a state in the background, unless its step is saved."""
    if checkpoints.latest_step() != step:
        checkpoints.save(step, args=ocp.args.StandardSave(_stored(state)))


def _drop_damaged(folder: pathlib.Path) -> None:
    """Reports damaged checkpoints and removes them. Training repeats their steps."""
    if jax.process_index() == 0:
        newest, damaged = newest_whole(folder)
        for line in damaged:
            say(f"{line}; going on from the checkpoint of step {newest:,}")
        if newest is not None:
            drop_after(folder, newest)
    multihost_utils.sync_global_devices("damaged checkpoints are gone")


def drop_after(folder: pathlib.Path, last: int) -> None:
    """Removes the checkpoints of steps after `last`, the newest first. Each is renamed before it is deleted."""
    for step in reversed(saved_steps(folder)):
        if step > last:
            unfinished = folder / f"{step}{UNFINISHED}"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree((folder / str(step)).rename(unfinished))


def restore(checkpoints: ocp.CheckpointManager, step: int, abstract: State) -> State:
    """The state of a step, with the shapes and shardings of `abstract`, on any number of devices.

    Raises:
        UserError: The checkpoint is of another network.
    """
    try:
        stored = checkpoints.restore(step, args=ocp.args.StandardRestore(_stored(abstract)))
    except ValueError as error:
        raise UserError(
            f"{checkpoints.directory}/{step}: does not fit this config ({error})".splitlines()[0]
        ) from error
    names = {name: field for field, name in STORED_NAMES.items()}
    return abstract._replace(**{names.get(name, name): field for name, field in stored.items()})


def restore_step(folder: pathlib.Path, step: int, abstract: State) -> State:
    """The state of one step of another run. `abstract` gives its layout.

    Raises:
        UserError: The checkpoint is damaged, or of another network.
    """
    if has_digests(folder / str(step)) and (damage := seal.damage(folder / str(step))):
        raise UserError(f"{damage}; accepted: another checkpoint")
    with ocp.CheckpointManager(folder.resolve(), options=ocp.CheckpointManagerOptions(read_only=True)) as checkpoints:
        return restore(checkpoints, step, abstract)


def restore_on_one_device(folder: pathlib.Path, state: State) -> tuple[int, State]:
    """Restores a run's newest undamaged checkpoint on one device, for evaluation and sampling.

    Args:
        folder: The checkpoints'.
        state: A state with the right shapes.

    Returns:
        (step, state).

    Raises:
        UserError: There is no undamaged checkpoint, or it is of another network.
    """
    step, damaged = newest_whole(folder)
    if step is None:
        raise UserError(f"{folder}: no checkpoint; accepted: a run that has saved one")
    for line in damaged:
        say(f"{line}; this is the checkpoint of step {step:,}")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with ocp.CheckpointManager(folder.resolve(), options=ocp.CheckpointManagerOptions(read_only=True)) as checkpoints:
        return step, restore(checkpoints, step, shapes(state, device))


STORED_NAMES = {"objective_params": "phi"}  # field -> its name on disk, where they differ
OPTIONAL = ("history", "levels")


def _stored(state: State) -> dict:
    """The fields as they are on disk. Of OPTIONAL, empty ones are left out: earlier checkpoints have none."""
    fields = {STORED_NAMES.get(name, name): field for name, field in state._asdict().items()}
    return {name: field for name, field in fields.items() if name not in OPTIONAL or jax.tree.leaves(field)}
