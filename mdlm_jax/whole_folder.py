"""A folder that is there whole or not at all."""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home

LOCK = ".building"


@contextlib.contextmanager
def whole_folder(output: str | os.PathLike) -> Iterator[pathlib.Path]:
    """An empty folder beside `output`. It is renamed to `output` if the block succeeds and removed if it fails.

    Only one process at a time can hold it. `output` may be an empty folder.

    Raises:
        UserError: Another process holds it, `output` holds something at the end, or the disk cannot be written.
    """
    output = expand_home(output)
    folder = output.with_name(output.name + ".incomplete")
    made = [path for path in folder.parents if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder}: another process is building this folder; wait for it to end") from None
            for left in folder.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name != LOCK:
                    left.unlink()
            try:
                yield folder
                _sync(folder)
                os.rename(folder, output)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    for path in made:
                        path.rmdir()
                raise
        (output / LOCK).unlink()
    except UserError:
        raise
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError where a disk is full
        raise UserError(f"{output} cannot be written ({' '.join(str(error).split())})") from error


def _sync(folder: pathlib.Path) -> None:
    """Flushes all files to disk, so that a folder with its final name is complete."""
    for file in (*folder.rglob("*"), folder):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
