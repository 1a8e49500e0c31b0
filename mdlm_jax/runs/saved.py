"""The checkpoints in a run's folder, as files. It imports neither JAX nor Orbax, so a wrong command ends at once."""

import pathlib

from mdlm_jax.errors import UserError
from mdlm_jax.runs import seal

METRICS, RESULT, INPUTS = "metrics.jsonl", "result.json", "inputs.json"
CONFIG = "config.json"  # the run's config; each checkpoint has a copy
EXTENSIONS = "extensions.json"  # the record of a run whose length has changed
LENGTH = ("budget", "budget_counter", "steps")  # keys that an extension changes
LAST_SAVED = "last_checkpoint"  # a file in the run's folder with the last saved step, even if its checkpoint is gone
UNFINISHED = ".orbax-checkpoint-tmp"  # suffix of a checkpoint that is being written


def saved_steps(folder: pathlib.Path) -> list[int]:
    """The steps of all checkpoints, ascending."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def newest_whole(folder: pathlib.Path) -> tuple[int | None, list[str]]:
    """Finds the newest checkpoint whose files match their digests.

    Returns:
        Its step (None if there is no checkpoint), and a line of damage for every newer checkpoint.

    Raises:
        UserError: There are checkpoints and all are damaged.
    """
    steps, damaged = saved_steps(folder), []
    # a run from before digests has none sealed, and no copies of its config, which are newer than digests;
    # in any other run an unsealed checkpoint is half removed
    unsealed = not any(has_digests(folder / str(step)) for step in steps)
    for step in reversed(steps):
        if unsealed or not (damage := seal.damage(folder / str(step))):
            return step, damaged
        damaged.append(damage)
    if damaged:
        raise UserError(f"{'; '.join(damaged)}; no other checkpoint is left; accepted: another --run")
    return None, []


def has_digests(checkpoint: pathlib.Path) -> bool:
    """Whether digests were written for a checkpoint, even if their file is gone."""
    return seal.is_sealed(checkpoint) or (checkpoint / CONFIG).exists()


def check_config(folder: pathlib.Path, step: int) -> None:
    """Compares the config of a run with the copy in its checkpoint. A checkpoint from before copies were kept passes.

    Raises:
        UserError: The run's config.json is not the one that the checkpoint was saved with.
    """
    from mdlm_jax.config import differing_keys, from_json  # bench saves checkpoints without ml_collections

    saved, current = folder / "checkpoints" / str(step) / CONFIG, folder / CONFIG
    if not saved.exists():
        return
    differing = differing_keys(from_json(saved), from_json(current), paths=False)
    if (folder / EXTENSIONS).exists():
        differing = [line for line in differing if line.partition(":")[0] not in LENGTH]
    if differing:
        raise UserError(
            f"{current} is not the config of checkpoint {step}: {'; '.join(differing)}; accepted: the file as it was"
        )
