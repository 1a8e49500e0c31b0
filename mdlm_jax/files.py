"""Atomic writes, and checks before long work that they will be possible."""

import contextlib
import errno
import os
import pathlib


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file atomically: a reader sees the old file or the whole new one.

    Args:
        path: The file. Its folder must exist.
        content: The whole new content.

    Raises:
        OSError: The file cannot be written. The old file stays, and no partial file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a partial file would use up space on a full disk
        raise


def expand_home(path: str | os.PathLike) -> pathlib.Path:
    """The path with ~ and ~user as folders; as it is where there is no such user."""
    try:
        return pathlib.Path(path).expanduser()
    except (RuntimeError, ValueError):  # no such user; not the name of one
        return pathlib.Path(path)


def check_can_be_made(folder: pathlib.Path) -> None:
    """Makes a folder and removes it again, so that what is refused later leaves nothing behind.

    Raises:
        OSError: The folder cannot be made, or nothing can be written into it.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()
