"""The folder with a user's own tasks. It imports no JAX, so a wrong command ends at once."""

import pathlib

from mdlm_jax.errors import UserError


def check_task_folder(folder: pathlib.Path | None) -> None:
    """Raises UserError if a folder is given and is not there."""
    if folder is not None and not folder.is_dir():
        raise UserError(f"--include-path={folder}: no such folder; accepted: a folder with task files")
