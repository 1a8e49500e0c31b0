"""The checkpoint that a branch continues, as its config names it. It imports no JAX, so that states are read fast."""

import pathlib

from mdlm_jax.configs.checks import refuse

LINEAGE = "lineage.json"  # the record of a run's origin, in its folder


def named_point(branch_from: str, folder: pathlib.Path) -> tuple[pathlib.Path, int]:
    """(folder, step) that the key `branch_from` names, whether the checkpoint is there or not.

    Args:
        branch_from: The value of the key.
        folder: The branch's. A parent without a path is beside it, so the folder of a sweep may be moved.

    Raises:
        UserError: The value is no FOLDER@STEP.
    """
    parent, _, step = branch_from.rpartition("@")
    if not parent or not (step.isascii() and step.isdigit()):
        refuse("branch_from", branch_from, "FOLDER@STEP, a run and the step of one of its checkpoints")
    return folder.parent / parent if pathlib.Path(parent).name == parent else pathlib.Path(parent), int(step)
