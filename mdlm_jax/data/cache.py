"""Where results that can be computed again are kept: a folder of the user, outside every corpus and run."""

import os
import pathlib

from mdlm_jax.files import write_whole


def cache_folder() -> pathlib.Path:
    """`mdlm-jax` below XDG_CACHE_HOME, which is ~/.cache unless the environment says otherwise."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mdlm-jax"


def keep(path: pathlib.Path, content: bytes) -> None:
    """Writes a file of the cache. A cache that cannot be written costs time and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError:
        pass
