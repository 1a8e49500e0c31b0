"""Whether a checkpoint's files are what was written: their SHA-256, in a file beside them.

Arrays lie compressed without a checksum: of one flipped bit, a restore would mostly make other weights and say nothing.
"""

import hashlib
import json
import pathlib

from mdlm_jax.files import write_whole

FILE_NAME = "digests.json"
UNSEALED = "_CHECKPOINT_METADATA"  # times and names, written once more at the commit; no restore needs them


def seal(folder: pathlib.Path) -> None:
    """Writes the digests of all files in `folder`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (FILE_NAME, UNSEALED))
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in paths}
    write_whole(folder / FILE_NAME, json.dumps(digests, indent=1) + "\n")


def is_sealed(folder: pathlib.Path) -> bool:
    return (folder / FILE_NAME).exists()


def damage(folder: pathlib.Path) -> str:
    """The first file that is not as it was written, and how; nothing where all are. `folder` is sealed."""
    try:
        digests = json.loads((folder / FILE_NAME).read_text(encoding="utf-8")).items()
    except (OSError, ValueError, AttributeError):
        return f"{folder / FILE_NAME} can not be read"
    for name, digest in digests:
        path = folder / name
        try:
            if _digest(path) != digest:
                return f"{path} is not what was written"
        except OSError as error:
            return f"{path} can not be read ({error.strerror})"
    return ""


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
