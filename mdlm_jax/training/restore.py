"""A trained run, opened again for evaluation and sampling."""

import pathlib
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Build, build
from mdlm_jax.config import from_json
from mdlm_jax.training import checkpoint


class Run(NamedTuple):
    config: ConfigDict
    built: Build
    step: int
    params: Any  # the averaged ones where they were kept
    phi: Any


def open_run(folder: pathlib.Path, **replaced: Any) -> Run:
    """The run in `folder` at its newest checkpoint, on one device. `replaced` are dotted config keys with __ for dots.

    Raises UserError where there is no run or no checkpoint.
    """
    config = from_json(folder / "config.json")
    with config.unlocked():
        config.update_from_flattened_dict({key.replace("__", "."): value for key, value in replaced.items()})
        # whatever it was trained on, one device serves
        config.train.update(runner="pmap", mesh_data=1, mesh_fsdp=-1)
    built = build(config)
    shapes = jax.eval_shape(built.make_state, *built.initial)
    step, state = checkpoint.restore_on_one_device(folder / "checkpoints", shapes)
    return Run(config, built, step, state.ema if built.options.ema_decay else state.params, state.phi)
