"""Reading a checkpoint's JSON: every value is checked before anything is built from it."""

import json
import math
import pathlib
from typing import Any, NamedTuple, NoReturn

from mdlm_jax.errors import UserError
from mdlm_jax.weights.tensors import shown

LARGEST = 2**31 - 1


class Settings(NamedTuple):
    """A configuration and the file that it comes from, which every refusal names."""

    values: dict[str, Any]
    file: pathlib.Path

    def refuse(self, key: str, accepted: str) -> NoReturn:
        value = shown(repr(self.values.get(key)), 80)
        raise UserError(f"{self.file}: {key} is {value}; accepted: {accepted}")

    def get(self, key: str, default: Any) -> Any:
        """The value, or the default where the key is absent or null."""
        value = self.values.get(key)
        return default if value is None else value

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= LARGEST:
            self.refuse(key, f"a whole number from {least} to {LARGEST}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1e30:
            self.refuse(key, "a number above 0")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def only(self, key: str, *accepted: Any) -> None:
        """Refuses a value that is not among those this package computes; the first is the default."""
        if self.get(key, accepted[0]) not in accepted:
            self.refuse(key, ", ".join(json.dumps(value) for value in accepted))

    def inner(self, key: str) -> "Settings":
        """A dictionary inside this one; empty where the key is absent."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            self.refuse(key, "an object")
        return Settings(value, self.file)

    def token(self, key: str, size: int) -> int | None:
        """A token id below `size`; the first of a list; None where the key is absent."""
        value = self.get(key, None)
        if isinstance(value, list) and value:
            value = value[0]
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < size:
            self.refuse(key, f"a token id from 0 to {size - 1}")
        return value


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: The file is missing, cannot be read, or is not one JSON object of finite numbers.
    """
    try:
        found = json.loads(path.read_bytes(), parse_constant=_not_finite, parse_float=_finite)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({shown(str(error), 160)})") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: a JSON {type(found).__name__}; accepted: an object")
    return found


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _not_finite(text)
    return value
