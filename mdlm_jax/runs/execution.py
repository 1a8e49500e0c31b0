"""A resumed run may change how it is executed, and nothing else.

config.json is the config that a run was first started with. execution.json lists later changes of its execution:
devices, microbatches, logging, the paths of its data. They are not part of the run's identity.
"""

import json
import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.config import flatten, from_json
from mdlm_jax.configs.base import KEYS
from mdlm_jax.configs.checks import check_values
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.records import read_records

FILE_NAME, WHAT = "execution.json", "the record of a run's execution"
MAY_CHANGE = frozenset(name for name, key in KEYS.items() if key.execution or key.path)


class Change(NamedTuple):
    """One change of a run's execution, as execution.json has it."""

    step: int  # of the checkpoint that was resumed
    changed: dict[str, Any]  # from keys to (value so far, value now)


def config_of_run(folder: pathlib.Path) -> ConfigDict:
    """The current config of a run: the first one with every later change of execution.

    Raises:
        UserError: There is no run in the folder, or its files are damaged.
    """
    config = from_json(folder / "config.json")
    values = {key: now for change in _read(folder) for key, (_, now) in change.changed.items()}
    check_values(dict(flatten(config)) | values, f"{folder / FILE_NAME}: ")
    config.update_from_flattened_dict(values)
    return config


def record_execution(config: ConfigDict, folder: pathlib.Path, step: int) -> dict[str, tuple]:
    """Records how a run is executed after `step`; returns (value so far, value now) of each key that changed."""
    before, now = dict(flatten(config_of_run(folder))), dict(flatten(config))
    changed = {key: (before[key], now[key]) for key in sorted(MAY_CHANGE) if before.get(key) != now[key]}
    if changed:
        lines = [change._asdict() for change in (*_read(folder), Change(step, changed))]
        write_whole(folder / FILE_NAME, json.dumps(lines, indent=1) + "\n")
    return changed


def _read(folder: pathlib.Path) -> list[Change]:
    changes = read_records(folder / FILE_NAME, Change, WHAT)
    for change in changes:
        for key, values in change.changed.items():
            if key not in MAY_CHANGE or not isinstance(values, list) or len(values) != 2:
                raise UserError(
                    f"{folder / FILE_NAME}: not {WHAT} ({key:.40}: {values!r:.40}); accepted: keys of execution, each "
                    "with the value before and after"
                )
    return changes
