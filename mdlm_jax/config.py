"""From files and flags to one checked ConfigDict. Past `build` nothing knows of configs."""

import difflib
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NoReturn

from ml_collections import ConfigDict

from mdlm_jax.configs import base
from mdlm_jax.configs.base import KEYS
from mdlm_jax.errors import UserError
from mdlm_jax.user_file import explained, run_file

PRESETS = pathlib.Path(__file__).with_name("configs")
LATER_KEYS = {name: key.default for name, key in KEYS.items() if key.later}
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def load_config(path: str | os.PathLike, overrides: Sequence[str] = ()) -> ConfigDict:
    """The checked config of a preset or a file, with overrides.

    Args:
      path: a Python file with `get_config()`, or the name of a preset in mdlm_jax/configs.
      overrides: `--config.key=value` each; of two with the same key the last counts.

    Raises:
      UserError: the file is missing or fails, a key is unknown (the nearest known one is named), or a value has
        another type or lies outside its range.
    """
    file = _config_file(str(path))
    get_config = run_file(file).get("get_config")
    if not callable(get_config):
        raise UserError(f"{file}: lacks get_config(), which every config defines")
    with explained(file):
        config = get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{file}: get_config() returns {config!r:.60}; accepted: a ConfigDict, as from base.get_config()"
        )
    validate(config, f"{file}: ")
    return override(config, overrides)


def _config_file(path: str) -> pathlib.Path:
    names = sorted(preset.stem for preset in PRESETS.glob("[a-z]*.py") if preset.stem != "key")
    if path in names and not pathlib.Path(path).is_file():
        return PRESETS / f"{path}.py"
    if not pathlib.Path(path).is_file():
        raise UserError(
            f"--config={path}: no such file; accepted: a Python file with get_config(), or {', '.join(names)}"
        )
    return pathlib.Path(path)


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A checked copy of the config with `--config.key=value` overrides, the last of a key counting.

    Raises:
      UserError: a key is unknown (the nearest known one is named), or a value has another type or lies outside its
        range.
    """
    config = ConfigDict(config.to_dict()).lock()
    for item in overrides:
        name, equals, text = item.removeprefix("--config.").partition("=")
        if not item.startswith("--config."):
            raise UserError(f"{item}: not understood; accepted: --config.KEY=VALUE")
        if name not in KEYS:
            unknown_key(name)
        if not equals:
            raise UserError(f"{item}: lacks a value; accepted: {item}={KEYS[name].default}")
        config.update_from_flattened_dict({name: _parsed(name, text)})
    validate(config)
    return config


def _parsed(name: str, text: str) -> Any:
    """The value of a key that a text stands for."""
    kind = type(KEYS[name].default)
    try:
        return BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"config.{name} is {text!r:.60}; accepted: {kind.__name__}, such as {KEYS[name].default!r}"
        ) from error


def validate(config: ConfigDict, where: str = "") -> None:
    """Checks that a config has every key and no other, and the type and range of every value.

    Args:
      config: the config.
      where: begins the message.

    Raises:
      UserError: one line with the key, its value and what would be accepted.
    """
    _check(dict(flatten(config)), where)


def _check(values: dict[str, Any], where: str) -> None:
    for name in values:
        if name not in KEYS:
            unknown_key(name, where)
    for name, key in KEYS.items():
        if name not in values:
            raise UserError(f"{where}config.{name} is missing; its default is {key.default!r}")
        if accepted := key.refusal(values[name]):
            refuse(name, values[name], accepted, where)


def unknown_key(name: str, where: str = "") -> NoReturn:
    """Raises the UserError of a key that no config has."""
    nearest = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.0)
    shown = (name if name.isprintable() else ascii(name))[:60]
    raise UserError(
        f"{where}config.{shown} is not a key; the nearest is config.{nearest[0]}, `mdlm-jax config` lists all"
    )


def flatten(config: ConfigDict | dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    pairs = []
    for key, value in config.items():
        is_leaf = not isinstance(value, ConfigDict | dict)
        pairs += [(f"{prefix}{key}", value)] if is_leaf else flatten(value, f"{prefix}{key}.")
    return pairs


def to_json(config: ConfigDict) -> str:
    """The config as the text of config.json."""
    return json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"


def from_json(path: str | os.PathLike) -> ConfigDict:
    """The checked config that a run was started with. Keys newer than the run get what runs did without them.

    Raises:
      UserError: names the file, and the key at fault.
    """
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; accepted: the folder of a run, with its config.json") from error
    except OSError as error:
        raise UserError(f"{path}: can not be read ({error.strerror}); accepted: the folder of a run") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not whole JSON, line {error.lineno} ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON in UTF-8") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {values!r:.40}; accepted: an object with the keys of a config")
    found = LATER_KEYS | dict(flatten(values))
    _check(found, f"{path}: ")
    config = base.get_config()
    config.update_from_flattened_dict(found)
    return config


def config_hash(config: ConfigDict) -> str:
    """Eight hex digits that two configs share only where every key agrees.

    A key that came later counts where it differs from what runs did without it: a run stays the one it was.
    """
    values = config.to_dict()
    for key, value in LATER_KEYS.items():
        holder, leaf = _holder(values, key)
        if leaf in holder and holder[leaf] == value:
            del holder[leaf]
    return hashlib.sha256(to_json(ConfigDict(values)).encode()).hexdigest()[:8]


def _holder(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """(what holds the value of a dotted key, its name there); an empty dict where nothing does."""
    *parents, leaf = key.split(".")
    holder = functools.reduce(lambda node, parent: node.get(parent, {}), parents, values)
    return (holder if isinstance(holder, dict) else {}), leaf


def differing_keys(one: ConfigDict, other: ConfigDict, execution: bool = False, paths: bool = True) -> list[str]:
    """`key: one's value -> other's value`, for every key on which two configs differ.

    Args:
      one: the first config.
      other: the second config.
      execution: also the keys that only say how a run is executed.
      paths: also the keys that name files; without them where the files are known to hold the same.
    """
    a, b = dict(flatten(one)), dict(flatten(other))
    left_out = {name for name, key in KEYS.items() if (key.execution and not execution) or (key.path and not paths)}
    compared = sorted((a.keys() | b.keys()) - left_out)
    return [f"{name}: {a.get(name)!r} -> {b.get(name)!r}" for name in compared if a.get(name) != b.get(name)]


def refuse(key: str, value: Any, accepted: str, where: str = "") -> NoReturn:
    """Raises the UserError that names the key, its value and what would be accepted."""
    raise UserError(f"{where}config.{key} is {value!r:.60}; accepted: {accepted}")


def choose(config: ConfigDict, key: str, options) -> Any:
    """options[the value of the dotted key]; refuses a value that is not among them."""
    value = config
    for part in key.split("."):
        value = value[part]
    if value not in options:
        refuse(key, value, ", ".join(map(str, options)))
    return options[value] if isinstance(options, dict) else value
