"""Ways to run the one train step: jit over a mesh, pmap, shard_map. Each only places arrays; none changes a number."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mdlm_jax.data import Batch
from mdlm_jax.errors import UserError
from mdlm_jax.training.step import State

ROWS = P(("data", "fsdp"))  # the batch is split over every device


class Runner(NamedTuple):
    """One way to run a step. `State` in and out is whole (as `init` gives it); inside it lies as the runner likes."""

    init: Callable[..., State]  # (a function that makes the state, its arguments) -> the state, placed
    abstract: Callable[..., State]  # the same as shapes and shardings, for restoring
    place: Callable[[Batch], Batch]  # this process's rows -> the global batch on devices
    step: Callable[[State, Batch], tuple[State, dict]]
    whole: Callable[[State], State]  # as it is saved and evaluated
    scatter: Callable[[State], State]  # the inverse


def make_mesh(data: int, fsdp: int, devices: Sequence[jax.Device]) -> Mesh:
    """`data` x `fsdp` of the devices; fsdp = -1 takes all that are left. Raises UserError where that is not all."""
    count = len(devices)
    if fsdp == -1 and data >= 1 and count % data == 0:
        fsdp = count // data
    if data < 1 or fsdp < 1 or data * fsdp != count:
        raise UserError(
            f"config.train.mesh_data x mesh_fsdp is {data} x {fsdp}; accepted: a product of {count}, as many as devices"
        )
    # Explicit axes, the default of make_mesh, put shardings into types, which Flax's Embed does not take
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices)


def split_parameters(mesh: Mesh, tree: Any) -> Any:
    """FSDP: each array is split along its longest axis that the devices divide; small ones are copied.

    Axis 0 of a block's leaf counts layers and is never split: a layer is gathered whole when its turn comes.
    """
    devices = mesh.shape["fsdp"]

    def spec(path, leaf) -> NamedSharding:
        stacked = any(getattr(key, "key", None) == "blocks" for key in path)
        axes = range(stacked, len(leaf.shape))
        divisible = [axis for axis in axes if leaf.shape[axis] % devices == 0 and leaf.shape[axis] >= devices]
        if devices == 1 or not divisible or leaf.size < 1024:
            return NamedSharding(mesh, P())
        longest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*(("fsdp" if axis == longest else None) for axis in range(len(leaf.shape)))))

    return jax.tree.map_with_path(spec, tree)


def shapes(state: State, sharding: jax.sharding.Sharding) -> State:
    """The state as shapes that all lie as `sharding` says."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)


def _place_rows(mesh: Mesh, batch: Batch) -> Batch:
    sharding = NamedSharding(mesh, ROWS)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)


def jit_runner(step: Callable, mesh: Mesh) -> Runner:
    """`jit` over the mesh: parameters and optimiser split over `fsdp`, the batch over all. The default."""

    def abstract(make_state, *arguments):
        state = jax.eval_shape(make_state, *arguments)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            state,
            split_parameters(mesh, state),
        )

    def init(make_state, *arguments):
        shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract(make_state, *arguments))
        return jax.jit(make_state, out_shardings=shardings)(*arguments)

    def pinned(state, batch):
        """Keeps the state where it lies: GSPMD would otherwise be free to move it."""
        new, metrics = step(state, batch)
        return jax.lax.with_sharding_constraint(new, split_parameters(mesh, new)), metrics

    single = mesh.size == 1 and jax.process_count() == 1
    compiled = jax.jit(step if single else pinned, donate_argnums=0)
    place = (lambda batch: batch) if single else partial(_place_rows, mesh)
    return Runner(init, abstract, place, compiled, whole=lambda state: state, scatter=lambda state: state)


def shard_map_runner(step: Callable, mesh: Mesh) -> Runner:
    """`shard_map`: every device holds all parameters and sums over the axes `data` and `fsdp` itself."""
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), ROWS), out_specs=P(), check_vma=False)
    copied = NamedSharding(mesh, P())

    return Runner(
        init=lambda make_state, *arguments: jax.jit(make_state, out_shardings=copied)(*arguments),
        abstract=lambda make_state, *arguments: shapes(jax.eval_shape(make_state, *arguments), copied),
        place=partial(_place_rows, mesh),
        step=jax.jit(mapped, donate_argnums=0),
        whole=lambda state: state,
        scatter=lambda state: state,
    )


def pmap_runner(step: Callable, mesh: Mesh) -> Runner:
    """`pmap`: the state is stacked once per device. For one process."""
    devices = list(mesh.devices.flat)

    def scatter(state: State) -> State:
        return jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), (len(devices), *leaf.shape)), state)

    first = jax.sharding.SingleDeviceSharding(devices[0])

    def place(batch: Batch) -> Batch:
        return jax.tree.map(lambda rows: rows.reshape(len(devices), -1, *rows.shape[1:]), batch)

    mapped = jax.pmap(step, axis_name="devices", devices=devices, donate_argnums=0)

    def first_metrics(state, batch):
        state, metrics = mapped(state, batch)
        return state, jax.tree.map(lambda copies: copies[0], metrics)

    return Runner(
        init=lambda make_state, *arguments: scatter(jax.jit(make_state)(*arguments)),
        abstract=lambda make_state, *arguments: shapes(jax.eval_shape(make_state, *arguments), first),
        place=place,
        step=first_metrics,
        whole=lambda state: jax.tree.map(lambda copies: copies[0], state),
        scatter=scatter,
    )


# runner -> (how to make it, the axis that the step sums over)
RUNNERS = {
    "jit": (jit_runner, None),
    "shard_map": (shard_map_runner, ("data", "fsdp")),
    "pmap": (pmap_runner, "devices"),
}
