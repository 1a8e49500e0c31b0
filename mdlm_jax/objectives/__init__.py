"""Every objective the package trains. A new one is a file beside these and a line in the dict."""

from mdlm_jax.objectives.any_order import any_order, any_order_causal
from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.objectives.base import MaskFn, Objective, View
from mdlm_jax.objectives.masked import masked, masked_lm

OBJECTIVES = {
    "ar": ar,
    "any_order": any_order,
    "any_order_causal": any_order_causal,
    "masked": masked,
    "masked_lm": masked_lm,
}

__all__ = ["OBJECTIVES", "MaskFn", "Objective", "View"]
