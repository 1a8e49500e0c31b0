"""The cost of training: FLOPs, memory, hardware peaks, prices, and published rules for rates and batches."""

from mdlm_jax.costs import prices, rules

__all__ = ["prices", "rules"]
