"""Several ways to sample one checkpoint, side by side: what each costs, and how good its text is."""

import math
import time
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.quality import Quality
from mdlm_jax.sampling.base import Plan, Trace
from mdlm_jax.sampling.confidence import CHOICES
from mdlm_jax.sampling.samplers import SAMPLERS

# what the run says, or what is the same for all that are compared
NOT_OF_A_PLAN = (
    "sampler",
    "length",
    "schedule",
    "reads_start",
    "parameterization",
    "objective_params",
    "trained_blocks",
    "shift",
    "bucket",
)
FIELDS = {name: kind for name, kind in Plan.__annotations__.items() if name not in NOT_OF_A_PLAN}


class Contender(NamedTuple):
    """One way to sample."""

    label: str
    draw: Callable[[Array], tuple[Array, Trace]]  # key -> tokens i32[B, L] and their trace
    temperature: float
    top_p: float | None
    dtype: str  # that the network computes in


class Row(NamedTuple):
    """What came of it. A token counts where it was drawn (`Trace.step` >= 0)."""

    label: str
    temperature: float
    top_p: float | None
    dtype: str
    batch: int  # rows drawn at once
    evaluations: float  # of the network, mean over rows; the rows of a batch wait for the last of them
    seconds: float  # per row: of a call by its rows
    tokens_per_second: float
    first_call_seconds: float  # with compilation, of all rows
    quality: Quality


def parse_plan(text: str) -> dict[str, Any]:
    """Arguments of a `Plan` from 'confidence:rule=threshold,limit=0.9': the sampler, then fields; 3+7 is two tokens.

    Raises UserError for what is not one, or is told by the run.
    """
    sampler, colon, rest = text.replace(" ", "").partition(":")
    if sampler not in SAMPLERS:
        raise UserError(f"plan {text!r}: no sampler {sampler!r}; accepted: {', '.join(SAMPLERS)}")
    said: dict[str, Any] = {"sampler": sampler}
    for item in rest.split(",") if colon else ():
        name, equals, value = item.partition("=")
        if name not in FIELDS or not equals:
            raise UserError(f"plan {text!r}: {item!r} sets no field; accepted: FIELD=VALUE with {', '.join(FIELDS)}")
        if name in said:
            raise UserError(f"plan {text!r}: {name} is there twice; accepted: once")
        said[name] = _value(text, name, value)
    return said


def _value(plan: str, name: str, text: str) -> Any:
    """The text as what the field is."""
    kind = FIELDS[name]
    kind = typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
    words = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "whole numbers such as 3+7")
    choices = CHOICES.get(name, ("true", "false") if kind is bool else ())
    try:
        value = tuple(map(int, text.split("+"))) if typing.get_origin(kind) is tuple else kind(text)
        if (choices and text not in choices) or (kind is float and not math.isfinite(value)):
            raise ValueError(text)
    except ValueError:
        raise UserError(f"plan {plan!r}: {name}={text}; accepted: {', '.join(choices) or words}") from None
    return text == "true" if kind is bool else value


def compare(
    contenders: Sequence[Contender],
    key: Array,
    measure: Callable[[np.ndarray, np.ndarray], Quality],
    repeats: int = 1,
) -> list[Row]:
    """Draws once to compile, then `repeats` times, timed and measured together; every contender has the same keys.

    `measure` is (tokens, which were drawn) -> Quality. All are compiled before any is timed, so that what cannot be
    drawn is known first.
    """
    first_calls = [_timed(contender.draw, key)[1] for contender in contenders]
    rows = []
    for (label, draw, *sampled_with), first_call in zip(contenders, first_calls, strict=True):
        calls = [_timed(draw, jax.random.fold_in(key, repeat)) for repeat in range(repeats)]
        tokens = np.concatenate([np.asarray(tokens) for (tokens, _), _ in calls])
        drawn = np.concatenate([np.asarray(trace.step) >= 0 for (_, trace), _ in calls])
        evaluations = np.mean([np.asarray(trace.evaluations) for (_, trace), _ in calls])
        seconds = sum(seconds for _, seconds in calls)
        cost = float(evaluations), seconds / len(tokens), float(drawn.sum() / seconds), first_call
        rows.append(Row(label, *sampled_with, len(tokens) // repeats, *cost, measure(tokens, drawn)))
    return rows


def _timed(draw: Callable, key: Array) -> tuple[tuple[Array, Trace], float]:
    start = time.perf_counter()
    found = jax.block_until_ready(draw(key))
    return found, time.perf_counter() - start
