"""Records in a run's folder: JSON files that hold a NamedTuple, or a list of them, and are read with their types."""

import functools
import json
import math
import pathlib
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from mdlm_jax.errors import UserError

T = TypeVar("T", bound=tuple)
Read = TypeVar("Read")
# a sweep has thousands of records of the same few types
_hints = functools.cache(typing.get_type_hints)
_origin = functools.cache(typing.get_origin)
_arguments = functools.cache(typing.get_args)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value from JSON has a type, such as int, float | None or dict[str, float]. Numbers are finite."""
    if isinstance(kind, types.UnionType):
        return any(fits(value, option) for option in _arguments(kind))
    if _origin(kind) is dict:
        value_kind = _arguments(kind)[1]
        return isinstance(value, dict) and all(fits(item, value_kind) for item in value.values())
    if kind is Any:
        return True
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)


def record(fields: Any, kind: type[T]) -> T:
    """The NamedTuple of these fields; fields with a default may be missing.

    Args:
        fields: What JSON holds.
        kind: The NamedTuple. Its fields may be NamedTuples too.

    Raises:
        ValueError: The first field that is missing, unknown or of another type.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"it holds {fields!r:.40}, expected an object")
    expected = _hints(kind)
    fields = getattr(kind, "_field_defaults", {}) | fields
    for key in [*expected, *fields]:
        if key not in fields:
            raise ValueError(f"key '{key}' is missing")
        if key not in expected:
            raise ValueError(f"key '{key:.40}' is unknown")
        if hasattr(expected[key], "_fields"):
            fields[key] = fields[key] if isinstance(fields[key], tuple) else record(fields[key], expected[key])
        elif not fits(fields[key], expected[key]):
            name = getattr(expected[key], "__name__", str(expected[key]))
            raise ValueError(f"key '{key}' is {fields[key]!r:.40}, expected {name}")
    return kind(**fields)


def read_record(path: pathlib.Path, kind: type[T], what: str) -> T | None:
    """The NamedTuple in a file; None without the file.

    Args:
        path: The file.
        kind: The NamedTuple.
        what: What the file is, for the message: "the lineage of a run".

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    return _read(path, what, lambda fields: record(fields, kind), None)


def read_records(path: pathlib.Path, kind: type[T], what: str) -> list[T]:
    """The NamedTuples in a file, as `read_record`; none without the file."""

    def records(found: Any) -> list[T]:
        if not isinstance(found, list):
            raise ValueError(f"it holds {found!r:.40}, expected a list")
        return [record(fields, kind) for fields in found]

    return _read(path, what, records, [])


def _read(path: pathlib.Path, what: str, parse: Callable[[Any], Read], missing: Read) -> Read:
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return missing
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not {what} ({error}); accepted: the file as it was written") from error
