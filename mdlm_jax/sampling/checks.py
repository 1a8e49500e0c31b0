"""Checks of a request before anything is compiled: the prompt, and each field that several samplers share."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.sampling.base import Request, Sampler
from mdlm_jax.sampling.guidance import guided_sides


def cannot(sampler: Sampler) -> frozenset[str]:
    """Which of "pad", "infill" and "blocks" the sampler cannot do."""
    return getattr(sampler, "cannot", frozenset())


def check(sampler: Sampler, request: Request) -> None:
    """Raises UserError, in one line, with what is wrong and what would be accepted."""
    name = type(sampler).__name__
    _check_prompt(name, sampler, request)
    for field in getattr(sampler, "_fields", ()):
        if field in FIELD_CHECKS:
            FIELD_CHECKS[field](getattr(sampler, field), request)
    _check_guidance_times(sampler)
    if request.trained.block_size:
        _check_blocks(name, sampler, request)
    sampler.check(request)
    if not request.trained.reads_start:
        padding, first = (request.prompt == -1).sum(axis=1), request.first
        if (first <= padding).any():
            raise UserError("this network was trained without a start symbol; accepted: a first token in every row")


def _check_guidance_times(sampler: Sampler) -> None:
    if not hasattr(sampler, "guidance_ramp"):
        return
    ramp, low, high = (getattr(sampler, f"guidance_{field}") for field in ("ramp", "min_time", "max_time"))
    for name, changed in (("ramp", ramp), ("min_time", low != 0), ("max_time", high != 1)):
        if changed and not getattr(sampler, "guidance", 0):
            raise UserError(f"guidance_{name} without guidance; accepted: with a weight")
    if not 0 <= low < high <= 1:
        raise UserError(f"guidance_min_time {low}, guidance_max_time {high}; accepted: 0 <= min_time < max_time <= 1")


def _check_prompt(name: str, sampler: Sampler, request: Request) -> None:
    prompt, length, vocab = request.prompt, request.length, request.vocab
    if prompt.ndim != 2 or not (np.issubdtype(prompt.dtype, np.integer) or not prompt.size):
        raise UserError(
            f"a prompt of {prompt.dtype}, {prompt.ndim} dimensions; accepted: whole numbers, [rows, tokens]"
        )
    given, masked, padded = prompt.shape[1], prompt == vocab, prompt == -1
    if not len(prompt):
        raise UserError("no prompt at all; accepted: one row or more, of no tokens where nothing is given")
    if given > length or (given == length and not masked.any(axis=1).all()):
        raise UserError(f"a prompt of {given} tokens leaves none of the {length} to draw; accepted: fewer")
    if masked.any() and "infill" in cannot(sampler):
        raise UserError(f"a prompt with masks: {name} draws what follows it; accepted: tokens alone")
    outside = prompt[(prompt < -1) | (prompt > vocab)]
    if outside.size:
        accepted = f"0 to {vocab - 1}, the mask {vocab}, and -1 to pad at the left"
        raise UserError(f"prompt token {outside[0]} is outside the vocabulary; accepted: {accepted}")
    if padded.any() and "pad" in cannot(sampler):
        raise UserError(f"prompts of several lengths: {name} needs one length for all; accepted: one length")
    if (padded[:, 1:] & ~padded[:, :-1]).any():
        raise UserError("a prompt with -1 after a token; accepted: padding at the left alone (`left_padded`)")


def _check_blocks(name: str, sampler: Sampler, request: Request) -> None:
    size, steps = request.trained.block_size, getattr(sampler, "steps", None)
    if "blocks" in cannot(sampler):
        raise UserError(f"{name} does not sample networks trained in blocks; accepted: a sampler of masks or noise")
    num_blocks = -(-request.length // size)
    if steps is not None and steps % num_blocks:
        raise UserError(f"steps {steps}: accepted is a multiple of the {num_blocks} blocks")


def _temperature(value: float, request: Request) -> None:
    if not 0 <= value < math.inf:
        raise UserError(f"temperature {value}: accepted is 0 (the likeliest token) or more, and finite")


def _steps(value: int | None, request: Request) -> None:
    if value is not None and value < 1:
        raise UserError(f"steps {value}: accepted is 1 or more")


def _top_k(value: int | None, request: Request) -> None:
    if value is not None and not 1 <= value <= request.vocab:
        raise UserError(f"top_k {value}: accepted is 1 to {request.vocab}")


def _top_p(value: float | None, request: Request) -> None:
    if value is not None and not 0 < value <= 1:
        raise UserError(f"top_p {value}: accepted is above 0 and at most 1")


def _guidance(value: float, request: Request) -> None:
    if not math.isfinite(value):
        raise UserError(f"guidance {value}: accepted is a finite number")
    text_length = request.trained.text_length
    if value and not guided_sides(request.prompt, request.length, request.vocab, text_length):
        given = "is no token of the other modality" if text_length else "is no prompt"
        raise UserError(f"guidance {value}: there {given} to be guided by; accepted: 0")


def _stop(value: int | None, request: Request) -> None:
    if value is not None and not 0 <= value < request.vocab:
        raise UserError(f"stop {value}: accepted is 0 to {request.vocab - 1}")


def _tokens(name: str) -> Callable[[tuple[int, ...], Request], None]:
    def check_tokens(value: tuple[int, ...], request: Request) -> None:
        if any(not 0 <= token < request.vocab for token in value):
            raise UserError(f"{name} names a token of {value}; accepted: 0 to {request.vocab - 1}")

    return check_tokens


# a field's name -> (its value, the request) -> None; a name means the same in every sampler
FIELD_CHECKS: dict[str, Callable[[Any, Request], None]] = {
    "temperature": _temperature,
    "steps": _steps,
    "top_k": _top_k,
    "top_p": _top_p,
    "guidance": _guidance,
    "stop": _stop,
    "suppress": _tokens("suppress"),
    "delay": _tokens("delay"),
}
