"""Every way to draw text from a trained network. A new one is a file beside these and a line in the dict."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.errors import UserError
from mdlm_jax.models.transformer import Model
from mdlm_jax.sampling.ancestral import ancestral, first_hitting
from mdlm_jax.sampling.autoregressive import autoregressive, ordered
from mdlm_jax.sampling.base import BUCKET, Numbers, Plan, Trace, left_padded
from mdlm_jax.sampling.blocks import in_blocks
from mdlm_jax.sampling.confidence import ARGUMENTS as confidence_arguments
from mdlm_jax.sampling.confidence import check as check_confidence
from mdlm_jax.sampling.confidence import confidence
from mdlm_jax.sampling.gaussian import gaussian
from mdlm_jax.sampling.network import Network
from mdlm_jax.sampling.reverse import metropolis, reverse

SAMPLERS = {
    "autoregressive": autoregressive,
    "ordered": ordered,
    "ancestral": ancestral,
    "first_hitting": first_hitting,
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
REVEALING = ("ancestral", "first_hitting", "confidence")  # a mask is revealed once
ONE_BY_ONE = ("autoregressive", "ordered", *REVEALING)  # every token is drawn from the network's law
OF_MASKS = (*REVEALING, *OF_A_PROCESS)

# what a plan may say beyond its length and temperature, and to which samplers
TAKEN_BY = {
    "steps": tuple(name for name in SAMPLERS if name not in ("autoregressive", "ordered", "first_hitting")),
    "top_k": ONE_BY_ONE,
    "top_p": ONE_BY_ONE,
    "correctors": ("predictor_corrector",),
    "guidance": OF_MASKS,
    "guidance_ramp": OF_MASKS,
    "stop": ("autoregressive", "confidence"),
    "trained_blocks": tuple(name for name in SAMPLERS if name not in ("autoregressive", "ordered", "gaussian")),
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

__all__ = ["SAMPLERS", "Plan", "Trace", "left_padded", "sample", "samplers_for"]


def samplers_for(objective: str) -> tuple[str, ...]:
    """The samplers that a network trained with this objective can serve. Raises UserError where there is none."""
    if objective not in SERVED_BY:
        raise UserError(f"objective {objective!r} has no sampler; accepted: {', '.join(SERVED_BY)}")
    return SERVED_BY[objective]


def sample(
    key: Array,
    model: Model,
    params: Any,
    prompt: Int[Array | np.ndarray, "B P"],
    plan: Plan,
    watch: Callable[[Int[np.ndarray, "B L"]], None] | None = None,
) -> tuple[Int[Array, "B L"], Trace]:
    """B rows of L tokens that begin with their prompts, and how they came about.

    A prompt token V, the mask, is to be filled as well: text may be given anywhere, up to all L places. Shorter prompts
    are padded at their left with -1 (`left_padded`): what follows is as if the padding were not there. `watch` is
    called with all rows at every evaluation of the network, as they are then.

    Row i draws from fold_in(key, i) alone: it is the same whatever the other rows are, and whether there are any.
    Compiled once for all prompts of one `bucket`, temperatures but 0, limits and weights of guidance but 0. Raises
    UserError where the plan or the prompt cannot be followed.
    """
    prompt = np.asarray(prompt)
    _check(plan, prompt, model.architecture.vocab_size)
    mask_id, (batch, given) = model.architecture.vocab_size, prompt.shape
    tokens = np.full((batch, plan.length), mask_id, np.int32)
    tokens[:, :given] = prompt
    first = int((tokens == mask_id).any(axis=0).argmax())
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
    numbers = Numbers(jnp.int32(first), jnp.float32(plan.temperature), jnp.float32(plan.limit or 0), plan.phi)
    fixed = plan._replace(
        temperature=float(plan.temperature > 0),
        limit=None,
        guidance=float(plan.guidance != 0),
        phi=(),
        bucket=-(-first // BUCKET) * BUCKET,
    )
    padded = bool((prompt < 0).any())
    return _run(
        keys, params, tokens, numbers, jnp.float32(plan.guidance), model=model, plan=fixed, padded=padded, watch=watch
    )


@partial(jax.jit, static_argnames=("model", "plan", "padded", "watch"))
def _run(keys, params, tokens, numbers: Numbers, guidance, *, model: Model, plan: Plan, padded: bool, watch):
    network = Network(model, params, tokens, watch=watch)
    if padded:
        network = network._replace(padding=(tokens < 0).sum(axis=1))
    if plan.guidance:
        given = tokens != network.mask_id
        network = network._replace(guidance=guidance, ramp=plan.guidance_ramp, given=given)
    sampler = SAMPLERS[plan.sampler]
    if plan.trained_blocks:
        drawn, trace = in_blocks(sampler, keys, network, tokens, plan, numbers)
    else:
        drawn, trace = sampler(keys, network, tokens, plan, numbers)
    return jnp.where(tokens < 0, tokens, drawn), trace


def _check(plan: Plan, prompt: np.ndarray, vocab_size: int) -> None:
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
    if plan.trained_blocks and plan.length % plan.trained_blocks:
        raise UserError(
            f"length {plan.length}: accepted is a multiple of the {plan.trained_blocks} tokens of a block in training"
        )
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
    if plan.guidance and not ((prompt >= 0) & ~hidden).any():
        raise UserError(f"guidance {plan.guidance}: there is no prompt to be guided by; accepted: 0")
    if plan.stop is not None and not 0 <= plan.stop < vocab_size:
        raise UserError(f"stop {plan.stop}: accepted: 0 to {vocab_size - 1}")
    if plan.sampler == "confidence":
        check_confidence(plan, prompt, vocab_size)
    if not plan.reads_start and (not given or padded.all(axis=1).any()):
        raise UserError("this network was trained without a start symbol; accepted: a prompt of at least one token")


def _check_padding(plan: Plan, padded: np.ndarray) -> None:
    if plan.sampler not in ONE_BY_ONE:
        raise UserError(
            f"prompts of several lengths: {plan.sampler} has one for all; accepted: {', '.join(ONE_BY_ONE)}"
        )
    if (padded[:, 1:] & ~padded[:, :-1]).any():
        raise UserError("a prompt with -1 behind a token; accepted: padding at the left alone (`left_padded`)")
    size = plan.trained_blocks
    if size and (padded.sum(axis=1) % size).any():
        raise UserError(
            f"prompts padded by {padded.sum(axis=1).max()}; accepted: a multiple of the block of {size} tokens"
        )
