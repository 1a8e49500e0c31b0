"""An experiment: a Python file with a docstring, `TITLE` and `grid() -> list[ConfigDict]`, every config complete."""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.config import differing_keys
from mdlm_jax.errors import UserError
from mdlm_jax.sweeps.plan import run_id
from mdlm_jax.user_file import explained, run_file


class Experiment(NamedTuple):
    path: pathlib.Path
    title: str
    configs: list[ConfigDict]


def load_experiment(path: str | os.PathLike) -> Experiment:
    """The experiment in a file. Raises UserError where it is missing, does not run, or has two runs of one identity."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; accepted: an experiment, as in experiments/")
    parts = run_file(path)
    title, grid = parts.get("TITLE"), parts.get("grid")
    if not isinstance(title, str) or not callable(grid):
        raise UserError(f"{path}: lacks {'TITLE' if callable(grid) else 'grid()'}, which every experiment defines")
    with explained(path):
        configs = grid()
        configs = list(configs) if isinstance(configs, Iterable) else configs  # grid() may yield
    if not configs or not isinstance(configs, list) or not all(isinstance(config, ConfigDict) for config in configs):
        raise UserError(f"{path}: grid() gives {configs!r:.60}; accepted: a list of one or more ConfigDict")
    _refuse_twins(path, configs)
    return Experiment(path, title, configs)


def _refuse_twins(path: pathlib.Path, configs: Sequence[ConfigDict]) -> None:
    named: dict[str, ConfigDict] = {}
    for config in configs:
        name = run_id(config)
        if name in named:
            differing = "; ".join(differing_keys(named[name], config)) or "nothing"
            raise UserError(
                f"{path}: two runs are called {name}, they differ in {differing}; accepted: runs that differ in "
                "objective, budget, size, learning rate or seed"
            )
        named[name] = config


def default_folder(path: str | os.PathLike) -> pathlib.Path:
    """Where the runs of an experiment go unless told otherwise: runs/<name of the file>."""
    return pathlib.Path("runs") / pathlib.Path(path).stem
