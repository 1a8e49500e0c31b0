"""Autoregressive, any-order and diffusion language models under one train step, compared per unit of compute.

`import mdlm_jax as mj` is the one import that a user needs. Names load when they are first used, so that the import
itself takes milliseconds and starts no JAX:

    config = mj.load_config("quickstart", ["--config.objective.name=masked"])
    result = mj.train(config, "runs/masked")
    print(mj.evaluate("runs/masked")["bits_per_byte"])
    print(mj.sample("runs/masked", prompts=["def "])[0].text[0])

Everything in `__all__` is public. All else is internal and may change without notice.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdlm_jax import costs, exact, laws, objectives, processes, report, sampling, schedules
    from mdlm_jax.api import evaluate, open_run, sample, train
    from mdlm_jax.build import Build, Network, Plan, Training, build, network, open_training, plan
    from mdlm_jax.config import combinations, load_config, with_objective
    from mdlm_jax.data import Batch, Example
    from mdlm_jax.errors import UserError
    from mdlm_jax.evaluation.quality import measure
    from mdlm_jax.models.architecture import Architecture
    from mdlm_jax.models.transformer import Model
    from mdlm_jax.objectives.base import Objective, Parameterization, View
    from mdlm_jax.processes.base import Process
    from mdlm_jax.training.step import State, StepOptions, make_train_step
    from mdlm_jax.weights.load import Weights, load_weights
    from mdlm_jax.weights.save import save_weights

__version__ = "0.1.0"

# public name -> the module that defines it; "" for a room, which is a module itself
_HOMES = {
    # from a config to a trained model
    "load_config": "config",
    "with_objective": "config",
    "combinations": "config",
    "plan": "build",
    "network": "build",
    "open_training": "build",
    "build": "build",
    "train": "api",
    "evaluate": "api",
    "sample": "api",
    "open_run": "api",
    # the types and the step that an objective meets
    "Architecture": "models.architecture",
    "Batch": "data",
    "Build": "build",
    "Example": "data",
    "Network": "build",
    "Model": "models.transformer",
    "Objective": "objectives.base",
    "Parameterization": "objectives.base",
    "Plan": "build",
    "Process": "processes.base",
    "State": "training.step",
    "StepOptions": "training.step",
    "Training": "build",
    "UserError": "errors",
    "View": "objectives.base",
    "Weights": "weights.load",
    "load_weights": "weights.load",
    "make_train_step": "training.step",
    "measure": "evaluation.quality",
    "save_weights": "weights.save",
    # rooms
    "costs": "",
    "exact": "",
    "laws": "",
    "objectives": "",
    "processes": "",
    "report": "",
    "sampling": "",
    "schedules": "",
}

__all__ = [
    "Architecture",
    "Batch",
    "Build",
    "Example",
    "Model",
    "Network",
    "Objective",
    "Parameterization",
    "Plan",
    "Process",
    "State",
    "StepOptions",
    "Training",
    "UserError",
    "View",
    "Weights",
    "__version__",
    "build",
    "combinations",
    "costs",
    "evaluate",
    "exact",
    "laws",
    "load_config",
    "load_weights",
    "make_train_step",
    "measure",
    "network",
    "objectives",
    "open_run",
    "open_training",
    "plan",
    "processes",
    "report",
    "sample",
    "sampling",
    "save_weights",
    "schedules",
    "train",
    "with_objective",
]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    module = importlib.import_module(f"{__name__}.{home or name}")
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Face(types.ModuleType):
    """Keeps `mdlm_jax.build` the function: importing a module of the package `build` would bind the package there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "build" and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
