"""Whether a folder holds a given run. It imports no JAX, so a wrong command ends at once."""

import pathlib

from ml_collections import ConfigDict

from mdlm_jax.config import differing_keys, from_json
from mdlm_jax.errors import UserError
from mdlm_jax.files import check_can_be_made
from mdlm_jax.runs.saved import INPUTS, LENGTH, METRICS, RESULT, saved_steps


def check_folder(config: ConfigDict, folder: pathlib.Path) -> bool:
    """Whether the folder holds this run already. The execution and the spelling of paths may differ.

    Raises:
        UserError: The folder holds another run, has no name, cannot be made, or has a folder where a file belongs.
    """
    if folder.name in ("", ".."):
        raise UserError(f"--run={str(folder)!r}; accepted: the folder of one run, by its name")
    for name in (METRICS, RESULT):
        if (folder / name).is_dir():
            raise UserError(f"{folder / name}: is a folder; accepted: the file that training writes, or none")
    path = folder / "config.json"
    kept = path if path.exists() else _newest_copy(folder)
    if kept is not None:
        # if the run has stored a digest of its data, that is compared and not the paths
        differing = differing_keys(from_json(kept), config, paths=not (folder / INPUTS).exists())
        if differing:
            only_length = all(line.partition(":")[0] in LENGTH for line in differing)
            accepted = "choose another --run" + (", or make this one longer with --extend" if only_length else "")
            raise UserError(f"{folder} holds another run, which differs in {'; '.join(differing)}; {accepted}")
    if path.exists():
        return True
    try:
        check_can_be_made(folder)
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    return False


def _newest_copy(folder: pathlib.Path) -> pathlib.Path | None:
    """The config in the newest checkpoint that has one: it stands for a config.json that is lost."""
    checkpoints = folder / "checkpoints"
    copies = (checkpoints / str(step) / "config.json" for step in reversed(saved_steps(checkpoints)))
    return next((copy for copy in copies if copy.exists()), None)


def cannot_be_written(folder: pathlib.Path, error: OSError) -> UserError:
    """The error for a folder in which nothing can be written."""
    return UserError(f"--run={folder}: cannot be written ({error.strerror}); accepted: a folder to write to")
