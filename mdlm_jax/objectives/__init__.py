"""The objectives that the package trains. A new one is a file beside these and a line in the dict."""

from mdlm_jax.objectives.any_order import any_order, any_order_causal, mask_tokens, random_ranks
from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.objectives.base import MaskFn, Objective, Parameterization, View, causal, cross_entropy, full, loss_mask
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.d3pm import d3pm, dense_divergence
from mdlm_jax.objectives.gaussian import gaussian
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.objectives.jumps import csm, tauldr
from mdlm_jax.objectives.masked import masked, masked_lm, masked_plain
from mdlm_jax.objectives.noised import importance_sampled_times
from mdlm_jax.objectives.parameterizations import full_posterior, leave_one_out, scaled_score, score
from mdlm_jax.objectives.score_entropy import duo, gidd, score_entropy, sedd, udlm
from mdlm_jax.objectives.unified import unified

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
    "unified": unified,
}

__all__ = [
    "OBJECTIVES",
    "MaskFn",
    "Objective",
    "Parameterization",
    "View",
    "any_order",
    "any_order_causal",
    "ar",
    "block",
    "causal",
    "cross_entropy",
    "csm",
    "d3pm",
    "dense_divergence",
    "duo",
    "full",
    "full_posterior",
    "gaussian",
    "genmd4",
    "gidd",
    "leave_one_out",
    "loss_mask",
    "mask_tokens",
    "masked",
    "masked_lm",
    "masked_plain",
    "random_ranks",
    "score",
    "score_entropy",
    "scaled_score",
    "sedd",
    "importance_sampled_times",
    "tauldr",
    "udlm",
    "unified",
]
