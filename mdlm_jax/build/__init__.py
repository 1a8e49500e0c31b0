"""From a checked config to plain values: a plan, a network, and its training."""

from mdlm_jax.build.network import Network, network
from mdlm_jax.build.plan import Plan, plan, warmup_steps
from mdlm_jax.build.training import Build, Training, build, open_rows, open_training

__all__ = [
    "Build",
    "Network",
    "Plan",
    "Training",
    "build",
    "network",
    "open_rows",
    "open_training",
    "plan",
    "warmup_steps",
]
