"""The mesh of devices that a config describes, and the checks that it divides what it splits."""

from collections.abc import Sequence

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mdlm_jax.build.plan import Plan
from mdlm_jax.configs.checks import refuse
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layout import AXES
from mdlm_jax.objectives.base import spans
from mdlm_jax.training.sharding import make_mesh


def open_mesh(config: ConfigDict, planned: Plan, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config over `devices`, by default all there are.

    Raises:
        UserError: The mesh does not fit the devices, or does not divide what it splits.
    """
    mesh = make_mesh(devices or jax.devices(), **{axis: config.train[f"mesh_{axis}"] for axis in AXES})
    lengths = [stop - start for start, stop, _ in spans(planned.objective.parts, planned.scored)]
    for scored in lengths or [planned.scored]:
        check_mesh(config, planned.architecture, mesh, positions=planned.positions, scored=scored)
    return mesh


def check_mesh(config: ConfigDict, architecture: Architecture, mesh: Mesh, *, positions: int, scored: int) -> None:
    """Checks that a mesh divides a run's rows, heads and positions.

    Args:
        config: The run's config.
        architecture: The run's network.
        mesh: The devices.
        positions: Positions of a view.
        scored: Positions of a view that have logits.

    Raises:
        UserError: The mesh does not divide them; the message names the key.
    """
    train = config.train
    data, fsdp, sequence, tensor = (mesh.shape[axis] for axis in AXES)
    if sequence * tensor > 1 and train.runner != "jit":
        refuse("train.runner", train.runner, "jit, where mesh_sequence or mesh_tensor is above 1")
    if config.objective.anneal_steps and train.attention == "splash":
        refuse("train.attention", "splash", "another, where objective.anneal_steps is not 0: the kernel draws no pairs")
    if sequence > 1 and train.attention == "splash":
        refuse("train.attention", "splash", "another, where mesh_sequence is above 1: the kernel takes whole rows")
    if train.runner == "pmap" and jax.process_count() > 1:
        refuse("train.runner", "pmap", "jit or shard_map, where there are several processes")
    if train.batch_size // train.microbatches % (data * fsdp):
        accepted = f"microbatches x a multiple of {data * fsdp}, the number of devices that rows are split over"
        refuse("train.batch_size", train.batch_size, accepted)
    for name in ("heads", "key_value_heads", "mlp_width"):
        if (count := getattr(architecture, name)) % tensor:
            refuse("train.mesh_tensor", tensor, f"a divisor of {count}, the model's {name}")
    for count, what in ((positions, "read"), (scored, "scored")):
        if count % (sequence * tensor):
            key, value = max(("train.mesh_sequence", sequence), ("train.mesh_tensor", tensor), key=lambda pair: pair[1])
            refuse(
                key, value, f"mesh_sequence x mesh_tensor a divisor of {count}, the positions of a row that are {what}"
            )
