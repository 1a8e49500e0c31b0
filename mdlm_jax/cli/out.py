"""Files and folders that `--out` and other options name."""

import errno
import os
import pathlib

from mdlm_jax.errors import UserError
from mdlm_jax.files import check_can_be_made, write_whole


def check_out_folder(path: pathlib.Path, option: str = "--out") -> None:
    """Raises UserError, before anything is computed, if a folder cannot be written to."""
    try:
        check_can_be_made(path)
    except OSError as error:
        raise _not_written(path, error, option) from error


def check_out(path: pathlib.Path, option: str = "--out") -> None:
    """Raises UserError, before anything is computed, if a file cannot be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.stat(path.parent)
        path.exists()  # a name may be too long
        check_can_be_made(path.parent)
    except OSError as error:
        raise _not_written(path, error, option) from error


def write_out(path: pathlib.Path, text: str, option: str = "--out") -> None:
    """Writes the file whole, and the folders above it where they are missing, or raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise _not_written(path, error, option) from error


def _not_written(path: pathlib.Path, error: OSError, option: str = "--out") -> UserError:
    return UserError(f"{option}={path}: cannot be written ({error.strerror}); accepted: a path that can be")
