"""Files are there whole or not at all."""

import os
import pathlib


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes `content` under another name beside `path`, then renames: who looks sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError:
        temporary.unlink(missing_ok=True)  # part of it would take up what is left of a full disk
        raise
    os.replace(temporary, path)
