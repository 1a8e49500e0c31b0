"""The user's cache folder, outside every corpus and run. It holds only results that can be computed again."""

import os
import pathlib

from mdlm_jax.files import write_whole


def cache_folder() -> pathlib.Path:
    """`mdlm-jax` below the environment variable XDG_CACHE_HOME, by default ~/.cache."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mdlm-jax"


def keep(path: pathlib.Path, content: bytes) -> None:
    """Writes a file of the cache. Failure is ignored: it costs only time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError:
        pass
