"""Every way to draw text from a trained network. A new one is a file beside these and a line in the dict."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.errors import UserError
from mdlm_jax.models.transformer import Model
from mdlm_jax.sampling.ancestral import ancestral
from mdlm_jax.sampling.autoregressive import autoregressive, ordered
from mdlm_jax.sampling.base import Plan, Trace
from mdlm_jax.sampling.confidence import ARGUMENTS as confidence_arguments
from mdlm_jax.sampling.confidence import check as check_confidence
from mdlm_jax.sampling.confidence import confidence
from mdlm_jax.sampling.gaussian import gaussian
from mdlm_jax.sampling.reverse import metropolis, reverse

SAMPLERS = {
    "autoregressive": autoregressive,
    "ordered": ordered,
    "ancestral": ancestral,
    "confidence": confidence,
    "posterior": reverse,
    "tweedie": reverse,
    "euler": reverse,
    "tau_leaping": reverse,
    "predictor_corrector": reverse,
    "metropolis": metropolis,
    "gaussian": gaussian,
}

OF_A_PROCESS = ("posterior", "tweedie", "euler", "tau_leaping", "predictor_corrector")
ONE_BY_ONE = ("autoregressive", "ordered", "ancestral", "confidence")  # every token is drawn from the network's law
OF_MASKS = ("ancestral", "confidence", *OF_A_PROCESS)

# what a plan may say beyond its length and temperature, and to which samplers
TAKEN_BY = {
    "steps": tuple(name for name in SAMPLERS if name not in ("autoregressive", "ordered")),
    "top_k": ONE_BY_ONE,
    "top_p": ONE_BY_ONE,
    "correctors": ("predictor_corrector",),
} | dict.fromkeys(confidence_arguments, ("confidence",))

# objective -> the samplers that ask of the network what it was trained to answer, the usual one first
SERVED_BY = {
    "ar": ("autoregressive",),
    "any_order": OF_MASKS,
    "any_order_causal": ("ordered",),
    "masked": OF_MASKS,
    "masked_lm": OF_MASKS,
    "masked_plain": OF_MASKS,
    # Tweedie tau-leaping undoes noise that treats all tokens alike
    "genmd4": tuple(name for name in OF_A_PROCESS if name != "tweedie"),
    # a chain of steps has no rates, and no states between the steps
    "d3pm": ("posterior",),
    "tauldr": OF_A_PROCESS,
    "sedd": OF_A_PROCESS,
    "gidd": OF_A_PROCESS,
    "udlm": OF_A_PROCESS,
    "duo": OF_A_PROCESS,
    "csm": (*OF_A_PROCESS, "metropolis"),
    "gaussian": ("gaussian",),
}

__all__ = ["SAMPLERS", "Plan", "Trace", "sample", "samplers_for"]


def samplers_for(objective: str) -> tuple[str, ...]:
    """The samplers that a network trained with this objective can serve. Raises UserError where there is none."""
    if objective not in SERVED_BY:
        raise UserError(f"objective {objective!r} has no sampler; accepted: {', '.join(SERVED_BY)}")
    return SERVED_BY[objective]


def sample(
    key: Array, model: Model, params: Any, prompt: Int[Array | np.ndarray, "B P"], plan: Plan
) -> tuple[Int[Array, "B L"], Trace]:
    """B rows of L tokens that begin with their prompts, and how they came about.

    A prompt token that is the mask (V) is to be filled as well: text may be given anywhere, up to all L places.

    Row i draws from fold_in(key, i) alone: it is the same whatever the other rows are, and whether there are any.
    Raises UserError where the plan or the prompt cannot be followed.
    """
    _check(plan, np.asarray(prompt), model.architecture.vocab_size)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(prompt.shape[0]))
    return SAMPLERS[plan.sampler](keys, model, params, jnp.asarray(prompt, jnp.int32), plan)


def _check(plan: Plan, prompt: np.ndarray, vocab_size: int) -> None:
    given = prompt.shape[1]
    hidden = prompt == vocab_size
    outside = prompt[(prompt < 0) | (prompt > vocab_size)]
    if plan.sampler not in SAMPLERS:
        raise UserError(f"sampler {plan.sampler!r}: accepted are {', '.join(SAMPLERS)}")
    if given > plan.length or (given == plan.length and not hidden.any(axis=1).all()):
        raise UserError(f"a prompt of {given} tokens leaves none of the {plan.length} to draw; accepted: fewer")
    if hidden.any() and plan.sampler in ("autoregressive", "ordered"):
        raise UserError(f"a prompt with masks: {plan.sampler} draws what follows it; accepted: tokens alone")
    if outside.size:
        accepted = f"0 to {vocab_size - 1}, and the mask {vocab_size}"
        raise UserError(f"prompt token {outside[0]} is outside the vocabulary; accepted: {accepted}")
    if not plan.temperature >= 0:
        raise UserError(f"temperature {plan.temperature}: accepted is 0 (the likeliest token) or more")
    for argument, samplers in TAKEN_BY.items():
        value = getattr(plan, argument)
        if value != Plan._field_defaults[argument] and plan.sampler not in samplers:
            raise UserError(f"{argument} {value}: {plan.sampler} has none; accepted with {', '.join(samplers)}")
    if plan.steps is not None and plan.steps < 1:
        raise UserError(f"steps {plan.steps}: accepted is 1 or more")
    of_a_process = SAMPLERS[plan.sampler] in (reverse, metropolis)
    if of_a_process and plan.answer is None:
        raise UserError(f"answer None: {plan.sampler} undoes a noise process; accepted: the answer of its objective")
    if of_a_process and plan.temperature != 1:
        raise UserError(f"temperature {plan.temperature}: {plan.sampler} follows its process; accepted: 1")
    if plan.correctors is not None and plan.correctors < 1:
        raise UserError(f"correctors {plan.correctors}: accepted is 1 or more")
    if plan.top_k is not None and not 1 <= plan.top_k <= vocab_size:
        raise UserError(f"top_k {plan.top_k}: accepted is 1 to {vocab_size}")
    if plan.top_p is not None and not 0 < plan.top_p <= 1:
        raise UserError(f"top_p {plan.top_p}: accepted is above 0 and at most 1")
    if plan.sampler == "confidence":
        check_confidence(plan, prompt, vocab_size)
    if not plan.reads_start and not given:
        raise UserError("this network was trained without a start symbol; accepted: a prompt of at least one token")
