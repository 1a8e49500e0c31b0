"""What a plan asks and cannot have, found before anything is compiled."""

import math

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.sampling.base import Plan
from mdlm_jax.sampling.confidence import check as check_confidence
from mdlm_jax.sampling.remasking import check as check_remasking
from mdlm_jax.sampling.reverse import metropolis, reverse
from mdlm_jax.sampling.samplers import ONE_BY_ONE, SAMPLERS, TAKEN_BY


def check(plan: Plan, prompt: np.ndarray, vocab_size: int) -> None:
    """Raises UserError, in one line: what it is, and what would be accepted."""
    if prompt.ndim != 2 or not (np.issubdtype(prompt.dtype, np.integer) or not prompt.size):
        raise UserError(
            f"a prompt of {prompt.dtype}, {prompt.ndim} dimensions; accepted: whole numbers, [rows, tokens]"
        )
    given = prompt.shape[1]
    hidden, padded = prompt == vocab_size, prompt == -1
    outside = prompt[(prompt < -1) | (prompt > vocab_size)]
    if plan.sampler not in SAMPLERS:
        raise UserError(f"sampler {plan.sampler!r}: accepted are {', '.join(SAMPLERS)}")
    if not len(prompt):
        raise UserError("no prompt at all; accepted: one row or more, of no tokens where nothing is given")
    if given > plan.length or (given == plan.length and not hidden.any(axis=1).all()):
        raise UserError(f"a prompt of {given} tokens leaves none of the {plan.length} to draw; accepted: fewer")
    if hidden.any() and plan.sampler in ("autoregressive", "ordered"):
        raise UserError(f"a prompt with masks: {plan.sampler} draws what follows it; accepted: tokens alone")
    if outside.size:
        accepted = f"0 to {vocab_size - 1}, the mask {vocab_size}, and -1 to pad at the left"
        raise UserError(f"prompt token {outside[0]} is outside the vocabulary; accepted: {accepted}")
    if not plan.temperature >= 0:
        raise UserError(f"temperature {plan.temperature}: accepted is 0 (the likeliest token) or more")
    for argument, samplers in TAKEN_BY.items():
        value = getattr(plan, argument)
        if value != Plan._field_defaults[argument] and plan.sampler not in samplers:
            raise UserError(f"{argument} {value}: {plan.sampler} has none; accepted with {', '.join(samplers)}")
    if padded.any():
        _check_padding(plan, padded)
    if plan.trained_blocks < 0 or (plan.shift and not plan.trained_blocks):
        raise UserError(f"trained_blocks {plan.trained_blocks}: accepted is 0 or more, and above 0 with shift")
    num_blocks = plan.length // plan.trained_blocks if plan.trained_blocks else 1
    if plan.steps is not None and plan.steps % max(num_blocks, 1):
        raise UserError(f"steps {plan.steps}: accepted is a multiple of the {num_blocks} blocks")
    if plan.trained_blocks and plan.length % plan.trained_blocks:
        raise UserError(
            f"length {plan.length}: accepted is a multiple of the {plan.trained_blocks} tokens of a block in training"
        )
    if plan.steps is not None and plan.steps < 1:
        raise UserError(f"steps {plan.steps}: accepted is 1 or more")
    of_a_process = SAMPLERS[plan.sampler] in (reverse, metropolis)
    if of_a_process and plan.parameterization is None:
        raise UserError(f"answer None: {plan.sampler} undoes a noise process; accepted: the answer of its objective")
    if of_a_process and plan.temperature != 1:
        raise UserError(f"temperature {plan.temperature}: {plan.sampler} follows its process; accepted: 1")
    if plan.correctors is not None and plan.correctors < 1:
        raise UserError(f"correctors {plan.correctors}: accepted is 1 or more")
    if plan.top_k is not None and not 1 <= plan.top_k <= vocab_size:
        raise UserError(f"top_k {plan.top_k}: accepted is 1 to {vocab_size}")
    if plan.top_p is not None and not 0 < plan.top_p <= 1:
        raise UserError(f"top_p {plan.top_p}: accepted is above 0 and at most 1")
    if not math.isfinite(plan.guidance):
        raise UserError(f"guidance {plan.guidance}: accepted is a finite number")
    if plan.guidance_ramp and not plan.guidance:
        raise UserError("guidance_ramp without guidance; accepted: with a weight")
    if plan.guidance and not ((prompt >= 0) & ~hidden).any():
        raise UserError(f"guidance {plan.guidance}: there is no prompt to be guided by; accepted: 0")
    if plan.stop is not None and not 0 <= plan.stop < vocab_size:
        raise UserError(f"stop {plan.stop}: accepted: 0 to {vocab_size - 1}")
    if plan.sampler == "confidence":
        check_confidence(plan, prompt, vocab_size)
    if plan.sampler == "remasking":
        check_remasking(plan)
    if not plan.reads_start and (not given or padded.all(axis=1).any()):
        raise UserError("this network was trained without a start symbol; accepted: a prompt of at least one token")


def _check_padding(plan: Plan, padded: np.ndarray) -> None:
    if plan.sampler not in ONE_BY_ONE:
        raise UserError(
            f"prompts of several lengths: {plan.sampler} has one for all; accepted: {', '.join(ONE_BY_ONE)}"
        )
    if (padded[:, 1:] & ~padded[:, :-1]).any():
        raise UserError("a prompt with -1 behind a token; accepted: padding at the left alone (`left_padded`)")
    if plan.shift:
        raise UserError("prompts of several lengths: a network with a shift has one for all; accepted: one length")
    size = plan.trained_blocks
    if size and (padded.sum(axis=1) % size).any():
        raise UserError(
            f"prompts padded by {padded.sum(axis=1).max()}; accepted: a multiple of the block of {size} tokens"
        )
