"""Every objective the package trains. A new one is a file beside these and a line in the dict."""

from mdlm_jax.objectives.any_order import any_order, any_order_causal
from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.objectives.base import MaskFn, Objective, Parameterization, View
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.gaussian import gaussian
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.objectives.jumps import csm, tauldr
from mdlm_jax.objectives.masked import masked, masked_lm, masked_plain
from mdlm_jax.objectives.score_entropy import duo, gidd, sedd, udlm

OBJECTIVES = {
    "ar": ar,
    "any_order": any_order,
    "any_order_causal": any_order_causal,
    "masked": masked,
    "masked_lm": masked_lm,
    "masked_plain": masked_plain,
    "genmd4": genmd4,
    "d3pm": d3pm,
    "tauldr": tauldr,
    "sedd": sedd,
    "gidd": gidd,
    "udlm": udlm,
    "duo": duo,
    "csm": csm,
    "gaussian": gaussian,
}

__all__ = ["OBJECTIVES", "Parameterization", "MaskFn", "Objective", "View"]
