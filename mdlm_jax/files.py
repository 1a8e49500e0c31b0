"""Atomic writes."""

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
    except OSError:
        temporary.unlink(missing_ok=True)  # a partial file would use up space on a full disk
        raise
    os.replace(temporary, path)
