"""One key of a config: its default, what it means, which values it accepts and who reads it."""

import math
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Value = bool | int | float | str

SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # normal float32 numbers, which computations round to
NOT_ZERO, NOT_EMPTY = "not 0", "not empty"  # stand for every value but the type's zero, in `Key.when`


class Key(NamedTuple):
    """A key. Its type is that of its default; ranges are of numbers, choices of text."""

    default: Value
    help: str
    choices: tuple[str, ...] = ()
    at_least: int | float | None = None
    above: int | float | None = None
    at_most: int | float | None = None
    below: int | float | None = None
    also: tuple[Value, ...] = ()  # accepted besides choices and range
    several: bool = False  # any of the choices, separated by commas
    plugin: bool = False  # FILE.py:FUNCTION and module:function are accepted too
    execution: bool = False  # how a run is executed, not which run it is: may change when a run resumes
    path: bool = False  # names files: two spellings of the same content are the same value
    later: bool = False  # newer than stored runs, which behave as with the default
    when: Mapping[str, tuple[Value, ...]] = MappingProxyType({})  # read where any of these keys has one of these values
    choice_when: Mapping[str, Mapping[str, tuple[Value, ...]]] = MappingProxyType({})  # the same for single choices

    @property
    def accepted(self) -> str:
        """What is accepted, in words."""
        if self.choices:
            words = ", ".join(self.choices)
            words += ", or FILE.py:FUNCTION or module:function" if self.plugin else ""
            return f"{words}, several by commas, or nothing" if self.several else words
        if isinstance(self.default, bool):
            return "True or False"
        if isinstance(self.default, str):
            return "text"
        bounds = []
        if self.at_least is not None:
            bounds.append(
                f"{_written(self.at_least)} or more" if self.at_least == 0 else f"at least {_written(self.at_least)}"
            )
        if self.above is not None:
            bounds.append(f"above {_written(self.above)}")
        if self.at_most is not None:
            bounds.append(f"at most {_written(self.at_most)}")
        if self.below is not None:
            bounds.append(f"below {_written(self.below)}")
        words = " and ".join(bounds) or ("a finite number" if isinstance(self.default, float) else "a whole number")
        return ", or ".join([words, *(_written(value) for value in self.also)])

    def refusal(self, value: Any) -> str:
        """What would be accepted instead of `value`; empty where the key accepts it."""
        kind = type(self.default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and kind is float) and type(value) is not kind:
            return f"{kind.__name__}, such as {self.default!r}"
        if value in self.also:
            return ""
        if isinstance(value, str):
            return "" if self._chosen(value) else self.accepted
        if isinstance(value, bool):
            return ""
        if kind is float and not (value == 0 or SMALLEST <= abs(value) <= LARGEST):
            return "a finite number" if abs(value) > LARGEST or math.isnan(value) else f"0, or {SMALLEST:.2g} or more"
        return "" if self._in_range(value) else self.accepted

    def _chosen(self, value: str) -> bool:
        if self.plugin and ":" in value:
            return True
        if self.several:
            return not value or set(value.split(",")) <= set(self.choices)
        return not self.choices or value in self.choices

    def _in_range(self, value: int | float) -> bool:
        # open ends hold after rounding too: 1 - 1e-9 is 1 where it is used
        rounded = struct.unpack("f", struct.pack("f", value))[0] if isinstance(self.default, float) else value
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or rounded > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or rounded < self.below)
        )

    @property
    def read_where(self) -> str:
        """Under which condition the key is read, in words; empty where it always is."""
        return ", or ".join(f"{other} is {_one_of(values)}" for other, values in self.when.items())

    def has(self, value: Value, values: tuple[Value, ...]) -> bool:
        """Whether `value` of this key is one of `values`; nobody knows what a user's own function reads."""
        if values in ((NOT_ZERO,), (NOT_EMPTY,)):
            return bool(value)
        return value in values or (self.plugin and ":" in str(value))


def _one_of(values: tuple[Value, ...]) -> str:
    return " or ".join([", ".join(_written(value) for value in values[:-1]), _written(values[-1])][len(values) < 2 :])


def _written(value: object) -> str:
    if isinstance(value, bool | str):
        return str(value) or "empty"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
