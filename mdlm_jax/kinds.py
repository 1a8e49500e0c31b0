"""A kind with its numbers, as text: `yarn:factor=4,original=8192`."""

import math
from collections.abc import Mapping
from typing import TypeVar

from mdlm_jax.errors import UserError

Default = TypeVar("Default", float, float | None)


def parse_kind(
    what: str, text: str, kinds: Mapping[str, Mapping[str, Default]], most: float, accepted: str
) -> tuple[str, dict[str, Default]]:
    """The kind and its numbers, of which those that the text leaves out have their defaults.

    >>> parse_kind("density", "bell:mean=0.3", {"bell": {"mean": 0.5, "width": 0.2}}, 1.0, "from 0 to 1")
    ('bell', {'mean': 0.3, 'width': 0.2})

    Args:
        what: What the text describes, for messages.
        text: KIND, or KIND:NAME=NUMBER,...
        kinds: From kinds to the defaults of their numbers.
        most: The numbers are from 0 to this, infinity excluded.
        accepted: The same range in words, for messages.

    Raises:
        UserError: The kind or a name is unknown, or a number is out of range.
    """
    kind, _, given = text.partition(":")
    if kind not in kinds:
        raise UserError(f"{what} {kind!r}: accepted: {', '.join(kinds)}")
    values = dict(kinds[kind])
    for item in filter(None, given.split(",")):
        name, _, value = item.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name not in values or not (0 <= number <= most and number < math.inf):
            raise UserError(f"{what} {text!r}: {item!r}; accepted: {', '.join(values)}, each a number {accepted}")
        values[name] = number
    return kind, values
