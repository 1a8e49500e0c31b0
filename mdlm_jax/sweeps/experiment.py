"""An experiment is a Python file with a docstring, `TITLE` and `grid()`.

`grid()` returns or yields one complete config per run, or returns a dict {label: config} whose labels name the runs.
With `BRANCH = True` runs that differ only in length share their steps before the decay (`branches.py`).
"""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.config import refuse_unread, to_json, validate
from mdlm_jax.errors import UserError
from mdlm_jax.sweeps.places import LONGEST, experiment_file
from mdlm_jax.user_file import explained, refuse_async, run_file


class Experiment(NamedTuple):
    """The configs of a sweep and the names of its runs."""

    path: pathlib.Path
    title: str
    configs: list[ConfigDict]
    labels: tuple[str, ...] = ()  # names of the runs; (): they follow from the configs
    branch: bool = False  # runs that differ only in length branch off one trunk

    @property
    def run_ids(self) -> list[str]:
        """The names of the runs."""
        from mdlm_jax.sweeps.names import run_ids  # imports JAX; a file that is no experiment is refused before

        return list(self.labels) or run_ids(self.configs)


def load_experiment(path: str | os.PathLike) -> Experiment:
    """Loads an experiment and checks all its configs.

    Args:
        path: A Python file, or the name of an experiment in mdlm_jax/experiments.

    Raises:
        UserError: The file is missing or fails, grid() returns anything but configs, or two configs are equal.
    """
    path = experiment_file(path)
    parts = run_file(path)
    title, grid = parts.get("TITLE"), parts.get("grid")
    if not isinstance(title, str) or not callable(grid):
        raise UserError(f"{path}: lacks {'TITLE' if callable(grid) else 'grid()'}, which every experiment defines")
    branch = parts.get("BRANCH", False)
    if not isinstance(branch, bool):
        raise UserError(f"{path}: BRANCH is {branch!r:.60}; accepted: True or False")
    refuse_async(path, "grid", grid)
    with explained(path):
        made = grid()
        labels = tuple(made) if isinstance(made, dict) else ()
        made = made.values() if isinstance(made, dict) else made
        configs = list(made) if isinstance(made, Iterable) else []  # grid() may yield
    if not configs or not all(isinstance(config, ConfigDict) for config in configs):
        given = configs if isinstance(made, Iterable) else made
        raise UserError(
            f"{path}: grid() gives {given!r:.60}; accepted: a list of one or more ConfigDict, or a dict by label"
        )
    for number, config in enumerate(configs):
        validate(config, f"{path}, run {number}: ")
        refuse_unread(config, where=f"{path}, run {number}: ")
    for label in labels:
        if not _is_file_name(label):
            raise UserError(
                f"{path}: a run is called {label!r:.60}; accepted: the name of a folder, up to {LONGEST} bytes"
            )
    _refuse_twins(path, configs)
    return Experiment(path, title, configs, labels, branch)


def _is_file_name(label: object) -> bool:
    return (
        isinstance(label, str)
        and label.isprintable()
        and 0 < len(label.encode()) <= LONGEST
        and label[0] != "."
        and "/" not in label
    )


def _refuse_twins(path: pathlib.Path, configs: Sequence[ConfigDict]) -> None:
    seen = set()
    for config in configs:
        if (text := to_json(config)) in seen:
            from mdlm_jax.sweeps.names import run_id

            raise UserError(
                f"{path}: two runs are called {run_id(config)}, they differ in nothing; accepted: different configs"
            )
        seen.add(text)
