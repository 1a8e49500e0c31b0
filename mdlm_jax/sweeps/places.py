"""Where a sweep is: the file of its experiment, and the folders of its runs."""

import os
import pathlib

from mdlm_jax.errors import UserError

SHIPPED = pathlib.Path(__file__).parents[1] / "experiments"
LONGEST = 200  # bytes of a run's name; file systems allow 255


def experiment_file(path: str | os.PathLike) -> pathlib.Path:
    """The file of an experiment, given its path or the name of one in mdlm_jax/experiments.

    Raises:
        UserError: There is no such file.
    """
    names = sorted(file.stem for file in SHIPPED.glob("[a-z]*.py"))
    if str(path) in names and not pathlib.Path(path).is_file():
        return SHIPPED / f"{path}.py"
    if not pathlib.Path(path).is_file():
        raise UserError(f"{path}: no such file; accepted: an experiment, as in experiments/, or {', '.join(names)}")
    return pathlib.Path(path)


def default_folder(path: str | os.PathLike) -> pathlib.Path:
    """The default folder for the runs of an experiment: runs/<name of the file>."""
    return pathlib.Path("runs") / pathlib.Path(path).stem


def config_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The config.json of every run in the folder of a sweep, by name.

    Raises:
        UserError: There is no run.
    """
    if not (found := sorted(folder.glob("*/config.json"))):
        raise UserError(f"{folder}: holds no runs; accepted: the folder of a sweep that was started")
    return found
