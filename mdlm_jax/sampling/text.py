"""Samplers as text: 'confidence:rule=threshold,limit=0.9', or FILE.py:FUNCTION for one of a user's own."""

import contextlib
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Any

from mdlm_jax.errors import UserError
from mdlm_jax.plugins import FORM, is_plugin, load_function, plugin_path
from mdlm_jax.sampling.base import Sampler
from mdlm_jax.sampling.samplers import SAMPLERS
from mdlm_jax.user_file import explained


def sampler_from(text: str) -> Sampler:
    """The sampler of a text.

    >>> sampler_from("confidence:rule=threshold,limit=0.9").limit
    0.9
    """
    return build_sampler(split_name(text)[0], parse(text))


def parse(text: str) -> dict[str, Any]:
    """The fields of a text: after the name and a colon, FIELD=VALUE by commas; 3+7 is two tokens.

    >>> parse("confidence:rule=threshold,limit=0.9,delay=3+7")
    {'rule': 'threshold', 'limit': 0.9, 'delay': (3, 7)}

    Raises:
        UserError: The text names no sampler, or a field or value that it does not have.
    """
    name, values = split_name(text)
    kinds, found = fields(name), {}
    for item in values.split(",") if values is not None else ():
        field, equals, value = (part.strip() for part in item.partition("="))
        if field not in kinds or not equals:
            raise UserError(f"sampler {text!r}: {item!r} sets no field; accepted: FIELD=VALUE with {', '.join(kinds)}")
        if field in found:
            raise UserError(f"sampler {text!r}: {field} is there twice; accepted: once")
        found[field] = _value(text, name, field, kinds[field], value)
    return found


def split_name(text: str) -> tuple[str, str | None]:
    """(the name, the fields after it): a name is a key of SAMPLERS, FILE.py:FUNCTION or module:function."""
    name, colon, rest = text.strip().partition(":")
    if name.strip() not in SAMPLERS and colon and "=" not in rest.partition(":")[0]:
        function, colon, rest = rest.partition(":")
        name = f"{name}:{function}"
    return name.strip(), rest if colon else None


def build_sampler(name: str, values: dict[str, Any]) -> Sampler:
    """The sampler with these fields. Raises UserError for a field that it does not have."""
    maker, kinds = sampler_maker(name), fields(name)
    for field, value in values.items():
        if field not in kinds:
            others = [other for other in SAMPLERS if field in fields(other)]
            raise UserError(f"{field} {value}: {name} has none; accepted with {', '.join(others)}")
    with errors_of(name):
        sampler = maker(**values)
    if not isinstance(sampler, Sampler):
        raise UserError(f"{name} gave {type(sampler).__name__}; accepted: a sampler, with the methods check and draw")
    return sampler


def errors_of(name: str) -> contextlib.AbstractContextManager:
    """Turns whatever the code of a user's own sampler raises into a UserError of one line."""
    return explained(plugin_path(name), name) if is_plugin(name) else contextlib.nullcontext()


def sampler_maker(name: str) -> Callable[..., Sampler]:
    """What makes the sampler from its fields. Raises UserError where there is none of this name."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    if not is_plugin(name):
        raise UserError(f"no sampler {name!r}; accepted: {', '.join(SAMPLERS)}, or {FORM}")
    return load_function(name)


def fields(name: str) -> dict[str, Any]:
    """The fields of a sampler that text may set, with their types."""
    maker = sampler_maker(name)
    function = maker.func if isinstance(maker, functools.partial) else maker
    hints = typing.get_type_hints(function)
    return {field: hints.get(field, str) for field in inspect.signature(maker).parameters}


def _value(text: str, name: str, field: str, kind: Any, value: str) -> Any:
    """The text as the type of the field."""
    kind = typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
    words = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "whole numbers such as 3+7")
    choices = getattr(sampler_maker(name), "choices", {}).get(field, ("true", "false") if kind is bool else ())
    try:
        made = tuple(map(int, value.split("+"))) if typing.get_origin(kind) is tuple else kind(value)
        if (choices and value not in choices) or (kind is float and not math.isfinite(made)):
            raise ValueError(value)
    except ValueError:
        raise UserError(f"sampler {text!r}: {field}={value}; accepted: {', '.join(choices) or words}") from None
    return value == "true" if kind is bool else made


def as_text(name: str, sampler: Sampler) -> dict[str, str]:
    """The sampler's name and the fields that differ from their defaults, for people."""
    parameters = inspect.signature(sampler_maker(name)).parameters
    shown = {field: str(getattr(sampler, field)) for field in fields(name) if hasattr(sampler, field)}
    chosen = {field: value for field, value in shown.items() if value != str(parameters[field].default)}
    return {"sampler": name} | chosen
