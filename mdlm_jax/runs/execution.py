"""A resumed run may change how it is executed, and nothing else.

config.json is the config that a run was first started with. execution.json lists later changes of its execution:
devices, microbatches, logging, the paths of its data. They are not part of the run's identity.
"""

import json
import pathlib

import jax
from ml_collections import ConfigDict

from mdlm_jax.config import flatten, from_json
from mdlm_jax.configs.base import KEYS
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole

FILE_NAME = "execution.json"
MAY_CHANGE = frozenset(name for name, key in KEYS.items() if key.execution or key.path)


def config_of_run(folder: pathlib.Path) -> ConfigDict:
    """The current config of a run: the first one with every later change of execution.

    Raises:
        UserError: There is no run in the folder, or its files are damaged.
    """
    config = from_json(folder / "config.json")
    for change in _read(folder):
        config.update_from_flattened_dict({key: now for key, (_, now) in change["changed"].items()})
    return config


def record_execution(config: ConfigDict, folder: pathlib.Path, step: int) -> dict[str, tuple]:
    """Records how a run is executed after `step`; returns (value so far, value now) of each key that changed."""
    if jax.process_index() > 0:
        return {}
    before, now = dict(flatten(config_of_run(folder))), dict(flatten(config))
    changed = {key: (before[key], now[key]) for key in sorted(MAY_CHANGE) if before.get(key) != now[key]}
    if changed:
        write_whole(
            folder / FILE_NAME, json.dumps([*_read(folder), {"step": step, "changed": changed}], indent=1) + "\n"
        )
    return changed


def _read(folder: pathlib.Path) -> list[dict]:
    path = folder / FILE_NAME
    try:
        changes = json.loads(path.read_text(encoding="utf-8"))
        if not all(change["changed"].keys() <= MAY_CHANGE for change in changes):
            raise ValueError("it changes a key that is not of execution")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not the record of a run's execution ({error})") from error
    return changes
