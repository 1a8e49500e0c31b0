"""Checks of a config: exactly the known keys, values of the right type and range, and no key without effect."""

import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

from ml_collections import ConfigDict

from mdlm_jax.configs.base import KEYS, MOST_SEED
from mdlm_jax.errors import UserError

# `plan` refuses these with more of the reason
EXPLAINED_BY_PLAN = {"objective.drop_prompt", "objective.block_size"}
EXPLAINED_BY_PLAN |= {f"model.{name}" for name in ("layers", "width", "heads", "key_value_heads", "mlp_width")}


def flatten(config: ConfigDict | dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    pairs = []
    for key, value in config.items():
        is_leaf = not isinstance(value, ConfigDict | dict)
        pairs += [(f"{prefix}{key}", value)] if is_leaf else flatten(value, f"{prefix}{key}.")
    return pairs


def validate(config: ConfigDict, where: str = "") -> None:
    """Checks that a config has every key and no other, and the type and range of every value.

    Args:
        config: The config.
        where: Text at the start of the message.

    Raises:
        UserError: One line with the key, its value and what would be accepted.
    """
    check_values(dict(flatten(config)), where)


def check_values(values: dict[str, Any], where: str = "") -> None:
    """`validate` for the values by dotted key."""
    for name in values:
        if name not in KEYS:
            unknown_key(name, where)
    for name, key in KEYS.items():
        if name not in values:
            raise UserError(f"{where}config.{name} is missing; its default is {key.default!r}")
        if accepted := key.refusal(values[name]):
            refuse(name, values[name], accepted, where)


def refuse_unread(config: ConfigDict | dict[str, Any], given: Iterable[str] = (), where: str = "") -> None:
    """Refuses keys that have no effect with the other values.

    Args:
        config: A config with every key.
        given: Keys that count whatever their values are; without any, all count that differ from their defaults.
        where: Text at the start of the message.

    Raises:
        UserError: One line with the key, its value and where it is read.
    """
    values = dict(flatten(config))
    given = set(given) or {name for name, value in values.items() if value != KEYS[name].default}
    for name, reason in unread_keys(values).items():
        if name in given and name not in EXPLAINED_BY_PLAN:
            raise UserError(f"{where}config.{name} is {values[name]!r:.60}; {reason}")


def unread_keys(values: dict[str, Any]) -> dict[str, str]:
    """The keys without effect, with the reason: none of their conditions holds, or only conditions on such keys."""
    is_read: dict[str, bool] = {}

    def read(name: str) -> bool:
        if name not in is_read:
            is_read[name] = not KEYS[name].when or any(holds(other, has) for other, has in KEYS[name].when.items())
        return is_read[name]

    def holds(other: str, choices: tuple) -> bool:
        return read(other) and KEYS[other].has(values[other], choices)

    found = {}
    for name, key in KEYS.items():
        if not read(name):
            others = [f"{other} is {values[other]!r}" for other in key.when if read(other)]
            others = others or [f"{' and '.join(key.when)} has no effect"]
            found[name] = f"it has no effect when {' and '.join(others)}, only when {key.read_where}"
        elif not all(holds(*condition) for condition in key.choice_when.get(values[name], {}).items()):
            others = (f"{other} is {values[other]!r}" for other in key.choice_when[values[name]])
            found[name] = (
                f"accepted where {' and '.join(others)}: {', '.join(one for one in key.choices if one != values[name])}"
            )
    return found


def unknown_key(name: str, where: str = "") -> NoReturn:
    """Raises the UserError of a key that no config has."""
    nearest = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.0)
    shown = (name if name.isprintable() else ascii(name))[:60]
    raise UserError(
        f"{where}config.{shown} is not a key; the nearest is config.{nearest[0]}, `mdlm-jax config` lists all"
    )


def refuse(key: str, value: Any, accepted: str, where: str = "") -> NoReturn:
    """Raises the UserError that names the key, its value and what would be accepted."""
    raise UserError(f"{where}config.{key} is {value!r:.60}; accepted: {accepted}")


def check_seed(seed: int) -> None:
    """Raises UserError for a seed of sampling that is not a number of 32 bits."""
    if not 0 <= seed <= MOST_SEED:
        raise UserError(f"--seed={seed}; accepted: 0 to {MOST_SEED}")
