"""Detects damaged checkpoints by the SHA-256 of their files, stored in a file beside them.

Arrays are compressed without a checksum: after one flipped bit, a restore would usually give other weights silently.
"""

import hashlib
import json
import pathlib

from mdlm_jax.files import write_whole

FILE_NAME = "digests.json"
# metadata and the commit marker, which Orbax writes after the digests; a restore does not need them
UNSEALED = ("_CHECKPOINT_METADATA", "commit_success.txt")


def seal(folder: pathlib.Path) -> None:
    """Writes the digests of all files in `folder`."""
    digests = {name: _digest(folder / name) for name in _files(folder)}
    write_whole(folder / FILE_NAME, json.dumps(digests, indent=1) + "\n")


def _files(folder: pathlib.Path) -> list[str]:
    """The files that have digests, as paths relative to `folder`."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in (FILE_NAME, *UNSEALED))


def is_sealed(folder: pathlib.Path) -> bool:
    """Whether a checkpoint has digests."""
    return (folder / FILE_NAME).exists()


def damage(folder: pathlib.Path) -> str:
    """Names the first damaged file of a sealed folder and its damage; empty if all files match their digests."""
    try:
        digests = dict(json.loads((folder / FILE_NAME).read_text(encoding="utf-8")).items())
    except (OSError, ValueError, AttributeError):
        return f"{folder / FILE_NAME} cannot be read"
    if without := [name for name in _files(folder) if name not in digests]:
        return f"{folder / without[0]} has no digest in {FILE_NAME}"
    if not digests:
        return f"{folder / FILE_NAME} has no digests"
    for name, digest in digests.items():
        path = folder / name
        try:
            if _digest(path) != digest:
                return f"{path} is not what was written"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
    return ""


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
