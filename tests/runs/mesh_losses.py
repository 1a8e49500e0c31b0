"""The losses of the first steps of tiny runs on meshes of this process's devices, one line of JSON for each run.

python -m tests.runs.mesh_losses '[[{"objective.name": "ar"}, [[1, 1, 1, 1], [2, 2, 1, 2]]]]'    # keys, sizes of meshes
"""

import json
import math
import sys

import jax

from mdlm_jax.build import build
from mdlm_jax.configs import base
from mdlm_jax.models.layout import AXES
from mdlm_jax.training.dispatch import stacked
from mdlm_jax.training.sharding import RUNNERS
from mdlm_jax.training.step import make_train_step
from tests.run_folders import TINY

STEPS = 4
# eight heads and rows: they admit every mesh of eight devices
SHAPE = {"size": "", "layers": 2, "width": 32, "heads": 8, "key_value_heads": 8, "mlp_width": 64}


def losses(keys: dict, sizes: list[int]) -> list[float]:
    """Of the first steps on the first devices, as many as the mesh has."""
    config = base.get_config()
    config.train.scan_layers = True
    config.update_from_flattened_dict(TINY | {f"model.{key}": value for key, value in SHAPE.items()} | keys)
    config.update_from_flattened_dict({f"train.mesh_{axis}": size for axis, size in zip(AXES, sizes, strict=True)})
    built = build(config, jax.devices()[: math.prod(sizes)])
    make_runner, axis_name = RUNNERS["jit"]
    step = make_train_step(built.model, built.objective, built.optimizer, built.options, axis_name)
    runner = make_runner(step, built.mesh)
    state, batches = runner.init(built.make_state, *built.initial), built.data.batches(0)
    _, metrics = runner.steps(state, runner.place(stacked([next(batches) for _ in range(STEPS)])), STEPS)
    return metrics["loss"].tolist()


if __name__ == "__main__":
    for keys, meshes in json.loads(sys.argv[1]):
        print(json.dumps([losses(keys, sizes) for sizes in meshes]), flush=True)
        jax.clear_caches()
