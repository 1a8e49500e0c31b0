"""A branch starts once its parent has saved the checkpoint that it continues."""

import pathlib

from mdlm_jax.runs.finished import finished
from mdlm_jax.runs.origin import LINEAGE
from mdlm_jax.sweeps.jobs import Job


def is_ready(job: Job) -> bool:
    """Whether a job can start: it continues nothing, has started before, or its checkpoint is there.

    A job whose parent is done can start too: if the checkpoint is missing, training says so.
    """
    return all(it.parent is None or has_parent(it.folder, it.parent, it.birth_step) for it in job.together)


def has_parent(folder: pathlib.Path, parent: pathlib.Path, step: int) -> bool:
    """Whether a branch can start.

    Args:
        folder: The branch's.
        parent: The folder of the run that it continues.
        step: The step of that run's checkpoint.
    """
    started, saved = (folder / LINEAGE).exists(), (parent / "checkpoints" / str(step)).is_dir()
    return started or saved or finished(parent) is not None
