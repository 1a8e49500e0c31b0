"""Every sampler, what a plan may ask of it, and which networks it can run on.

A new one is a file beside these and a line in each dict.
"""

from mdlm_jax.errors import UserError
from mdlm_jax.sampling.ancestral import ancestral, first_hitting
from mdlm_jax.sampling.autoregressive import autoregressive, ordered
from mdlm_jax.sampling.confidence import ARGUMENTS as confidence_arguments
from mdlm_jax.sampling.confidence import confidence
from mdlm_jax.sampling.gaussian import gaussian
from mdlm_jax.sampling.remasking import ARGUMENTS as remasking_arguments
from mdlm_jax.sampling.remasking import remasking
from mdlm_jax.sampling.reverse import metropolis, reverse

SAMPLERS = {
    "autoregressive": autoregressive,
    "ordered": ordered,
    "ancestral": ancestral,
    "first_hitting": first_hitting,
    "confidence": confidence,
    "remasking": remasking,
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
ONE_BY_ONE = (
    "autoregressive",
    "ordered",
    *REVEALING,
    "remasking",
)  # every token is drawn from the network's distribution
OF_MASKS = (*REVEALING, "remasking", *OF_A_PROCESS)

# what a plan may say beyond its length and temperature, and to which samplers
TAKEN_BY = {
    "steps": tuple(name for name in SAMPLERS if name not in ("autoregressive", "ordered", "first_hitting")),
    "top_k": ONE_BY_ONE,
    "top_p": ONE_BY_ONE,
    "correctors": ("predictor_corrector",),
    "guidance": OF_MASKS,
    "guidance_ramp": OF_MASKS,
    "stop": ("autoregressive", "confidence"),
    "upstream_compat": ("confidence", "remasking"),
    "shift": (*OF_MASKS, "metropolis"),
    "trained_blocks": tuple(name for name in SAMPLERS if name not in ("autoregressive", "ordered", "gaussian")),
}
TAKEN_BY |= dict.fromkeys(confidence_arguments, ("confidence",))
TAKEN_BY |= dict.fromkeys(remasking_arguments, ("remasking",))

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


def samplers_for(objective: str) -> tuple[str, ...]:
    """The samplers that a network trained with this objective can serve. Raises UserError where there is none."""
    if objective not in SERVED_BY:
        raise UserError(f"objective {objective!r} has no sampler; accepted: {', '.join(SERVED_BY)}")
    return SERVED_BY[objective]
