"""From files and flags to one checked ConfigDict. Past `build` nothing knows of configs."""

import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mdlm_jax.configs import base
from mdlm_jax.configs.base import KEYS
from mdlm_jax.configs.checks import check_values, flatten, refuse_unread, unknown_key, unread_keys, validate
from mdlm_jax.errors import UserError
from mdlm_jax.user_file import explained, refuse_async, run_file

NOT_PRESETS = ("key", "checks", "objective_keys", "relations", "sizes", "million_steps")
PRESETS = pathlib.Path(__file__).with_name("configs")
LATER_KEYS = {name: key.default for name, key in KEYS.items() if key.later}
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def load_config(path: str | os.PathLike, overrides: Sequence[str] = ()) -> ConfigDict:
    """The checked config of a preset or a file, with overrides.

    Args:
        path: A Python file with `get_config()`, or the name of a preset in mdlm_jax/configs.
        overrides: `--config.key=value` each; of two with the same key the last counts.

    Raises:
        UserError: The file is missing or fails, a key is unknown (the nearest known one is named), or a value has
            another type or lies outside its range.
    """
    file = _config_file(str(path))
    get_config = run_file(file).get("get_config")
    if not callable(get_config):
        raise UserError(f"{file}: lacks get_config(), which every config defines")
    refuse_async(file, "get_config", get_config)
    with explained(file):
        config = get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{file}: get_config() returns {config!r:.60}; accepted: a ConfigDict, as from base.get_config()"
        )
    validate(config, f"{file}: ")
    refuse_unread(config, where=f"{file}: ")
    return override(config, overrides)


def _config_file(path: str) -> pathlib.Path:
    names = sorted(preset.stem for preset in PRESETS.glob("[a-z]*.py") if preset.stem not in NOT_PRESETS)
    if path in names and not pathlib.Path(path).is_file():
        return PRESETS / f"{path}.py"
    if not pathlib.Path(path).is_file():
        raise UserError(
            f"--config={path}: no such file; accepted: a Python file with get_config(), or {', '.join(names)}"
        )
    return pathlib.Path(path)


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A checked copy of the config with `--config.key=value` overrides, the last of a key counting.

    Keys of the config that nothing reads any more return to their defaults: those of another objective, for example.

    Raises:
        UserError: A key is unknown (the nearest known one is named) or read by nothing, or a value has another type or
            lies outside its range.
    """
    values = {}
    for item in overrides:
        name, equals, text = item.removeprefix("--config.").partition("=")
        if not item.startswith("--config."):
            raise UserError(f"{item}: not understood; accepted: --config.KEY=VALUE")
        if name not in KEYS:
            unknown_key(name)
        if not equals:
            raise UserError(f"{item}: lacks a value; accepted: {item}={KEYS[name].default}")
        values[name] = _parsed(name, text)
    return _changed(config, values)


def is_read(config: ConfigDict, name: str) -> bool:
    """Whether anything reads a key, given the others."""
    return name not in unread_keys(dict(flatten(config)))


def combinations(config: ConfigDict, values: Mapping[str, Iterable[Any]]) -> list[ConfigDict]:
    """A checked copy of the config for every combination of values, the last key varying fastest.

    >>> grid = combinations(base.get_config(), {"objective.name": ("ar", "masked"), "seed": (0, 1)})
    >>> [(config.objective.name, config.seed) for config in grid]
    [('ar', 0), ('ar', 1), ('masked', 0), ('masked', 1)]
    """
    return [_changed(config, dict(zip(values, row, strict=True))) for row in itertools.product(*values.values())]


def with_objective(config: ConfigDict, name: str, **keys: Any) -> ConfigDict:
    """A checked copy of the config with another objective.

    Args:
        config: The config; its keys `objective.*` that the new objective does not read return to their defaults.
        name: The value of `objective.name`.
        **keys: Values of other keys of `config.objective`.

    Raises:
        UserError: A key is unknown, read by nothing, or has a value that is not accepted.

    >>> from mdlm_jax.configs import smdm
    >>> with_objective(smdm.get_config(), "ar").objective.epsilon_convention
    'none'
    """
    for key in keys:
        if f"objective.{key}" not in KEYS:
            unknown_key(f"objective.{key}")
    return _changed(config, {"objective.name": name} | {f"objective.{key}": value for key, value in keys.items()})


def _changed(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    changed = dict(flatten(config)) | values
    check_values(changed)
    kept = unread_keys(dict(flatten(config))).keys() | values.keys()  # an old run keeps what nothing reads
    while others := {name for name in unread_keys(changed) if changed[name] != KEYS[name].default} - kept:
        changed |= {name: KEYS[name].default for name in others}
    if values:
        refuse_unread(changed, given=values)
    copy = base.get_config()
    copy.update_from_flattened_dict(changed)
    return copy


def _parsed(name: str, text: str) -> Any:
    """The value of a key that a text stands for."""
    kind = type(KEYS[name].default)
    try:
        return BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"config.{name} is {text!r:.60}; accepted: {kind.__name__}, such as {KEYS[name].default!r}"
        ) from error


def to_json(config: ConfigDict) -> str:
    """The config as the text of config.json."""
    return _as_json(config.to_dict())


def _as_json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def from_json(path: str | os.PathLike) -> ConfigDict:
    """The checked config that a run was started with. Newer keys get the value it was trained with.

    Raises:
        UserError: A value is invalid; the message names the file and the key.
    """
    values = stored_values(path)
    check_values(values, f"{path}: ")
    config = base.get_config()
    config.update_from_flattened_dict(values)
    return config


def stored_values(path: str | os.PathLike) -> dict[str, Any]:
    """The values of a config.json by dotted key, unchecked.

    Raises:
        UserError: The file is not there or holds no JSON object.
    """
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; accepted: the folder of a run, with its config.json") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); accepted: the folder of a run") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not whole JSON, line {error.lineno} ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON in UTF-8") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {values!r:.40}; accepted: an object with the keys of a config")
    return LATER_KEYS | dict(flatten(values))


def config_hash(config: ConfigDict) -> str:
    """Eight hex digits that two configs share only where every key agrees.

    A key that came later counts where it differs from what runs did without it: a run stays the one it was.
    """
    return _hash_of_values(dict(flatten(config)))


def hash_of_stored(path: str | os.PathLike) -> str:
    """The `config_hash` of a config.json, in a tenth of the time of `from_json`: it makes no ConfigDict.

    The values are not checked: those that are invalid have the hash of no run.

    Raises:
        UserError: The file is not there or holds no JSON object.
    """
    return _hash_of_values(stored_values(path))


def _hash_of_values(values: dict[str, Any]) -> str:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, _, leaf = key.rpartition(".")
        holder = nested.setdefault(section, {}) if section else nested
        if key not in LATER_KEYS or value != LATER_KEYS[key]:
            holder[leaf] = value
    return hashlib.sha256(_as_json(nested).encode()).hexdigest()[:8]


def differing_keys(one: ConfigDict, other: ConfigDict, execution: bool = False, paths: bool = True) -> list[str]:
    """`key: one's value -> other's value`, for every key on which two configs differ.

    Args:
        one: The first config.
        other: The second config.
        execution: Whether to include the keys that only say how a run is executed.
        paths: Also the keys that name files; without them where the files are known to hold the same.
    """
    a, b = dict(flatten(one)), dict(flatten(other))
    left_out = {name for name, key in KEYS.items() if (key.execution and not execution) or (key.path and not paths)}
    compared = sorted((a.keys() | b.keys()) - left_out)
    return [f"{name}: {a.get(name)!r} -> {b.get(name)!r}" for name in compared if a.get(name) != b.get(name)]
