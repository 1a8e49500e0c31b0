"""Several runs as one program: `vmap` of the train step over their states.

Small networks leave a device idle between kernels. Sixteen of them in one program fill it and compile once. Each member
keeps its data, seed, learning rate and folder, and gives the same result as if it were trained alone.
"""

import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from mdlm_jax.config import flatten
from mdlm_jax.data import Batch
from mdlm_jax.runs.saved import newest_whole
from mdlm_jax.training.dispatch import steps_of
from mdlm_jax.training.sharding import Runner
from mdlm_jax.training.step import State

# keys in which members may differ: they set the data, the first state, and leaves of the optimiser's state
OWN = ("seed", "data.seed", "optim.lr", "optim.weight_decay", "optim.warmup_min", "optim.warmup_share")
ONE_DEVICE = ("train.mesh_data", "train.mesh_fsdp", "train.mesh_sequence", "train.mesh_tensor")


class Program(NamedTuple):
    """How runs are stepped together: as one joint state."""

    join: Callable[[Sequence[State]], Any]  # the members' states -> the joint state
    member: Callable[[Any, int], State]  # (joint state, member) -> its state, as it is saved and evaluated
    place: Callable[[Sequence[Batch]], Batch]  # each member's batches of N steps -> the joint batches
    steps: Callable[..., tuple[Any, dict]]  # (joint state, joint batches, count) -> (joint state, joint metrics)
    metrics: Callable[[dict, int], dict]  # (joint metrics of N steps on the host, member) -> its metrics


def alone(runner: Runner) -> Program:
    """One run, as its runner steps it."""
    return Program(
        join=lambda states: states[0],
        member=lambda state, _: runner.whole(state),
        place=lambda batches: runner.place(batches[0]),
        steps=runner.steps,
        metrics=lambda metrics, _: metrics,
    )


def together(step: Callable, num_members: int) -> Program:
    """`jit` of `vmap`. The members are spread evenly over the devices, as many as divide their number."""
    devices = jax.devices()[: math.gcd(num_members, jax.device_count())]
    mesh = Mesh(np.array(devices), ("members",))

    def stack(trees, axis=0):
        spread = NamedSharding(mesh, P(*[None] * axis, "members"))
        return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves, axis), spread), *trees)

    @jax.jit
    def taken(state, member):
        return jax.tree.map(lambda leaves: jax.lax.dynamic_index_in_dim(leaves, member, keepdims=False), state)

    return Program(
        join=stack,
        member=lambda state, member: jax.device_put(taken(state, jnp.int32(member)), devices[0]),
        place=lambda batches: stack(batches, 1),
        steps=jax.jit(steps_of(jax.vmap(step)), donate_argnums=0),
        metrics=lambda metrics, member: {name: values[:, member] for name, values in metrics.items()},
    )


def program_of(config: ConfigDict) -> tuple | None:
    """A key that is equal for configs whose runs can share a program; None for a run that must be alone.

    A run must be alone if it can rewind, or is itself split over devices or processes.
    """
    values = dict(flatten(config))
    split = config.train.runner != "jit" or any(values[axis] > 1 for axis in ONE_DEVICE) or jax.process_count() > 1
    if split or config.optim.on_nonfinite == "rewind":
        return None
    return tuple(sorted((key, value) for key, value in values.items() if key not in OWN))


def populations(configs: Sequence[ConfigDict], folders: Sequence[pathlib.Path]) -> list[list[int]]:
    """Groups runs, by index, that can share a program and whose newest checkpoints are at the same step."""
    found: dict[Any, list[int]] = {}
    for number, (config, folder) in enumerate(zip(configs, folders, strict=True)):
        program = program_of(config)
        far = newest_whole(folder / "checkpoints")[0]  # None: at the start, or at one parent's checkpoint
        found.setdefault(number if program is None else (program, far), []).append(number)
    return list(found.values())
