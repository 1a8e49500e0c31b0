"""A run that lost its checkpoints is not restarted from step 0 unless the user requests it with --fresh."""

import contextlib
import json
import pathlib

from mdlm_jax.errors import UserError
from mdlm_jax.runs.rewind import read_rewinds
from mdlm_jax.runs.saved import LAST_SAVED, saved_steps

KEPT = ("config.json", "attempts", "cancelled", "log.txt")  # files that stay when a run is set aside


def refuse_lost(folder: pathlib.Path) -> None:
    """Refuses a run that has saved checkpoints and has none left.

    A run that was killed before its first checkpoint may start again: it takes the same steps.

    Raises:
        UserError: The run had checkpoints and has none now.
    """
    checkpoints, metrics = folder / "checkpoints", folder / "metrics.jsonl"
    if saved_steps(checkpoints) or (rewinds := read_rewinds(folder)) and rewinds[-1].step == 0:
        return
    step = _last_step(metrics)
    if step and (not checkpoints.is_dir() or (folder / LAST_SAVED).exists()):
        raise UserError(
            f"{metrics} has {step:,} steps and no checkpoint is left to resume from; accepted: the folder with its "
            "checkpoints, or --fresh, which sets aside what is there and trains from step 0"
        )


def set_aside(folder: pathlib.Path) -> pathlib.Path | None:
    """Moves everything that a run has written, except the files in KEPT, into a new folder inside the run's folder.

    Returns:
        The new folder, or None if there was nothing to move.
    """
    written = [path for path in folder.glob("*") if path.name not in KEPT and not path.name.startswith("set-aside-")]
    if not written:
        return None
    number = 1 + max((int(path.name.rpartition("-")[2]) for path in folder.glob("set-aside-*")), default=0)
    aside = folder / f"set-aside-{number}"
    aside.mkdir()
    for path in written:
        path.rename(aside / path.name)
    return aside


def _last_step(metrics: pathlib.Path) -> int:
    with contextlib.suppress(OSError):
        for line in reversed(metrics.read_text(encoding="utf-8", errors="replace").splitlines()):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                return int(json.loads(line)["step"])
    return 0
