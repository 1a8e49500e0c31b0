"""The result of a run that has finished. It imports no JAX, so that the states of a sweep are shown at once."""

import functools
import pathlib

from mdlm_jax.config import hash_of_stored
from mdlm_jax.errors import UserError
from mdlm_jax.runs.result import FILE_NAME, Result, read_result


def finished(folder: pathlib.Path) -> Result | None:
    """The result of a finished run; None if it has not finished with the config in its folder."""
    return _finished(folder, versions(folder))


def is_done(folder: pathlib.Path) -> bool:
    """Whether the run in `folder` has a valid result."""
    return finished(folder) is not None


def versions(folder: pathlib.Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes whenever a run's result or config is written."""
    return tuple(_version(folder / name) for name in (FILE_NAME, "config.json"))


def _version(path: pathlib.Path) -> tuple[int, int, int] | None:
    """None if the file is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=16_384)  # a sweep that is watched looks at all its runs every two seconds
def _finished(folder: pathlib.Path, version: tuple) -> Result | None:
    try:
        result = read_result(folder / FILE_NAME)
    except UserError:
        return None
    current = result.config_hash == hash_of_stored(folder / "config.json")
    return result if result.status == "done" and current else None
