"""From files and flags to one checked ConfigDict. Past `build` nothing knows of configs."""

import difflib
import functools
import hashlib
import json
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from mdlm_jax.errors import UserError


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config that `get_config()` of a Python file returns, with `--config.key=value` overrides.

    Raises UserError where the file is missing, a key is unknown (the nearest known one is named) or a type is wrong.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f"--config={path}: no such file; accepted: a Python file with get_config(), as in configs/")
    # a config imports the one that it differs from as `configs.base`, from the folder above its own
    sys.path.insert(0, str(pathlib.Path(path).resolve().parents[1]))
    values = flags.FlagValues()
    arguments = ["mdlm-jax", f"--config={path}", *overrides]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        values(arguments)
    except flags.UnrecognizedFlagError as error:
        raise UserError(
            f"--{error.flagname} is not an option of train; accepted: --run, --config, --config.KEY"
        ) from error
    except Exception as error:  # whatever a file of Python can raise
        _explain(error, path, overrides)
    return values.config


def _explain(error: Exception, path: str, overrides: Sequence[str]) -> NoReturn:
    """Turns what absl and ml_collections raise into a line that names the key and the nearest known one."""
    known = dict(flatten(load_config(path))) if overrides else {}
    for override in overrides:
        key, _, value = override.removeprefix("--config.").partition("=")
        if key not in known:
            unknown_key(key, list(known))
        kind = type(known[key])
        if kind is not str and not _reads_as(kind, value):
            raise UserError(f"config.{key} is {value!r}; accepted: {kind.__name__}, such as {known[key]!r}") from error
    raise UserError(f"{path}: {error}".splitlines()[0]) from error


def _reads_as(kind: type, text: str) -> bool:
    if kind is bool:
        return text.lower() in ("true", "false", "t", "f", "1", "0")
    try:
        kind(text)
    except ValueError:
        return False
    return True


def unknown_key(key: str, known: list[str]) -> NoReturn:
    """Raises the UserError of a key that no config has."""
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise UserError(f"config.{key} is not a key; the nearest is config.{nearest[0]}, configs/base.py lists all")


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A copy of the config with `--config.key=value` overrides, the last of a key counting.

    Raises UserError where a key is unknown (the nearest known one is named) or a type is wrong.
    """
    config = ConfigDict(config.to_dict())
    for item in overrides:
        key, _, value = item.removeprefix("--config.").partition("=")
        known = dict(flatten(config))
        if key not in known:
            unknown_key(key, list(known))
        kind = type(known[key])
        if kind is not str and not _reads_as(kind, value):
            raise UserError(f"config.{key} is {value!r}; accepted: {kind.__name__}, such as {known[key]!r}")
        *parents, leaf = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[leaf] = value.lower() in ("true", "t", "1") if kind is bool else kind(value)
    return config


def flatten(config: ConfigDict, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    pairs = []
    for key, value in config.items():
        pairs += flatten(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else [(prefix + key, value)]
    return pairs


def to_json(config: ConfigDict) -> str:
    return json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"


# keys that came after the first runs were stored, with what runs did without them
LATER_KEYS = {
    "start_from": "",
    "objective.block_shared_level": False,
    "objective.block_shift": False,
    "objective.drop_prompt": 0.0,
    "data.prompt_tokens": 0,
    "optim.spike_deviations": 0.0,
    "optim.rewind_steps": 100,
    "optim.max_rewinds": 3,
    "train.scored_only": False,
    "train.mesh_sequence": 1,
    "train.mesh_tensor": 1,
    "train.float8": False,
}


def from_json(path: str | os.PathLike) -> ConfigDict:
    """The config that a run was started with. Raises UserError naming the file."""
    try:
        told = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; accepted: the folder of a run, with its config.json") from error
    except OSError as error:
        raise UserError(f"{path}: can not be read ({error.strerror}); accepted: the folder of a run") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not whole JSON, line {error.lineno} ({error.msg})") from error
    for key, value in LATER_KEYS.items():
        holder, leaf = _holder(told, key)
        holder.setdefault(leaf, value)
    return ConfigDict(told)


def config_hash(config: ConfigDict) -> str:
    """Eight hex digits that two configs share only where every key agrees.

    A key that came later counts where it differs from what runs did without it: a run stays the one it was.
    """
    told = config.to_dict()
    for key, value in LATER_KEYS.items():
        holder, leaf = _holder(told, key)
        if leaf in holder and holder[leaf] == value:
            del holder[leaf]
    return hashlib.sha256(to_json(ConfigDict(told)).encode()).hexdigest()[:8]


def _holder(told: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """(what holds the value of a dotted key, its name there); an empty dict where nothing does."""
    *parents, leaf = key.split(".")
    return functools.reduce(lambda node, parent: node.get(parent, {}), parents, told), leaf


def differing_keys(one: ConfigDict, other: ConfigDict) -> list[str]:
    """`key: one's value -> other's value`, for every key on which they differ."""
    a, b = dict(flatten(one)), dict(flatten(other))
    return [f"{key}: {a.get(key)!r} -> {b.get(key)!r}" for key in sorted(a | b) if a.get(key) != b.get(key)]


def refuse(key: str, value: Any, accepted: str) -> NoReturn:
    """Raises the UserError that names the key, its value and what would be accepted."""
    raise UserError(f"config.{key} is {value!r}; accepted: {accepted}")


def choose(config: ConfigDict, key: str, options) -> Any:
    """options[the value of the dotted key]; refuses a value that is not among them."""
    value = config
    for part in key.split("."):
        value = value[part]
    if value not in options:
        refuse(key, value, ", ".join(map(str, options)))
    return options[value] if isinstance(options, dict) else value


def slug(text: str) -> str:
    """Letters, digits, dots, dashes and underscores only: safe as a file name anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
