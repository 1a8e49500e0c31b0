"""A trained run, opened again for evaluation and sampling."""

import pathlib
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Build, build
from mdlm_jax.config import from_json
from mdlm_jax.models.layout import AXES
from mdlm_jax.runs import checkpoint


class Run(NamedTuple):
    config: ConfigDict
    built: Build
    step: int
    params: Any  # the averaged ones where they were kept
    objective_params: Any


def open_run(folder: pathlib.Path, sequences: int | None = None) -> Run:
    """The run in `folder` at its newest checkpoint, on one device, with `sequences` held-out rows (its own by default).

    Raises UserError where there is no run or no checkpoint.
    """
    config = from_json(folder / "config.json")
    if sequences is not None:
        config.eval.sequences = sequences
    # whatever it was trained on, one device serves
    for axis in AXES:
        config.train[f"mesh_{axis}"] = 1
    config.train.float8 = False  # its scales are of a whole batch: a row would depend on the others
    built = build(config, jax.devices()[:1])
    shapes = jax.eval_shape(built.make_state, *built.initial)
    step, state = checkpoint.restore_on_one_device(folder / "checkpoints", shapes)
    return Run(config, built, step, state.ema if built.options.ema_decay else state.params, state.objective_params)
