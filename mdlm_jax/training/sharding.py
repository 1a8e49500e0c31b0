"""Ways to run the one train step: jit over a mesh, pmap, shard_map. They place arrays and do not change results."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mdlm_jax.data import Batch
from mdlm_jax.errors import UserError
from mdlm_jax.models.layout import AXES, ROWS, split_weights
from mdlm_jax.training.dispatch import steps_of
from mdlm_jax.training.step import State


class Runner(NamedTuple):
    """One way to run a train step. The runner decides how the state is placed between steps."""

    init: Callable[..., State]  # (a function that makes the state, its arguments) -> the state, placed
    abstract: Callable[..., State]  # the same arguments -> shapes and shardings, for restoring
    place: Callable[[Batch], Batch]  # this process's rows, [N, rows, ..] for N steps -> the global ones on devices
    steps: Callable[..., tuple[State, dict]]  # (state, placed batches, how many to take), as `steps_of` makes it
    whole: Callable[[State], State]  # a placed state -> the state as it is saved and evaluated
    scatter: Callable[[State], State]  # the inverse of `whole`


def make_mesh(devices: Sequence[jax.Device], *, data: int, fsdp: int, sequence: int = 1, tensor: int = 1) -> Mesh:
    """A mesh of data x fsdp x sequence x tensor devices.

    Args:
        devices: All devices, each used once.
        data: Devices along `data`.
        fsdp: Devices along `fsdp`; -1 takes all that the other axes leave.
        sequence: Devices along `sequence`.
        tensor: Devices along `tensor`.

    Raises:
        UserError: The product is not the number of devices.
    """
    count, others = len(devices), data * sequence * tensor
    if fsdp == -1 and min(data, sequence, tensor) >= 1 and count % others == 0:
        fsdp = count // others
    if min(data, fsdp, sequence, tensor) < 1 or fsdp * others != count:
        raise UserError(
            "config.train.mesh_data x mesh_fsdp x mesh_sequence x mesh_tensor is "
            f"{data} x {fsdp} x {sequence} x {tensor}; accepted: a product of {count}, as many as devices "
            "(config.train.mesh_fsdp=-1 takes all that the others leave)"
        )
    # Explicit axes put shardings into types, which Flax's Embed does not take
    return Mesh(_arranged(devices, (data, fsdp, sequence, tensor)), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arranged(devices: Sequence[jax.Device], sizes: tuple[int, int, int, int]) -> np.ndarray:
    """The devices as an array of these sizes: the last axes use the fastest links, `data` connects slices of TPUs."""
    slices = len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"})
    if slices <= 1:
        return create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    data, *within = sizes
    if data % slices:
        raise UserError(f"config.train.mesh_data is {data}; accepted: a multiple of {slices}, the slices of TPUs")
    inside = (data // slices, *within)
    return create_hybrid_device_mesh(inside, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)


def share_of_rows(mesh: Mesh) -> tuple[int, int]:
    """Which share of every batch this process reads.

    Processes whose devices hold parts of the same rows read the same share.

    Returns:
        (index of the share, number of shares).
    """
    data, fsdp, *others = mesh.devices.shape
    held = defaultdict(set)
    for device, row in zip(mesh.devices.flat, np.repeat(np.arange(data * fsdp), np.prod(others)), strict=True):
        held[device.process_index].add(int(row))
    shares = sorted({tuple(sorted(rows)) for rows in held.values()})
    return shares.index(tuple(sorted(held[jax.process_index()]))), len(shares)


def shapes(state: State, sharding: jax.sharding.Sharding) -> State:
    """The state as shapes, all with this sharding."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)


def _place_rows(mesh: Mesh, batch: Batch) -> Batch:
    sharding = NamedSharding(mesh, P(None, ROWS))
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)


def jit_runner(step: Callable, mesh: Mesh) -> Runner:
    """The default: `jit` over the mesh, with the shardings of `models/layout.py`."""

    def abstract(make_state, *arguments):
        state = jax.eval_shape(make_state, *arguments)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            state,
            split_weights(mesh, state),
        )

    def init(make_state, *arguments):
        shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract(make_state, *arguments))
        return jax.jit(make_state, out_shardings=shardings)(*arguments)

    def pinned(state, batch):
        """Keeps the sharding of the state: GSPMD could otherwise change it."""
        new, metrics = step(state, batch)
        return jax.lax.with_sharding_constraint(new, split_weights(mesh, new)), metrics

    single = mesh.size == 1 and jax.process_count() == 1
    compiled = jax.jit(steps_of(step if single else pinned), donate_argnums=0)
    place = jax.device_put if single else partial(_place_rows, mesh)
    return Runner(init, abstract, place, compiled, whole=lambda state: state, scatter=lambda state: state)


def shard_map_runner(step: Callable, mesh: Mesh) -> Runner:
    """`shard_map`: every device holds all parameters, and the step sums over the axes `data` and `fsdp`."""
    specs = P(), P(None, ROWS), P()
    mapped = jax.shard_map(steps_of(step), mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)
    copied = NamedSharding(mesh, P())

    return Runner(
        init=lambda make_state, *arguments: jax.jit(make_state, out_shardings=copied)(*arguments),
        abstract=lambda make_state, *arguments: shapes(jax.eval_shape(make_state, *arguments), copied),
        place=partial(_place_rows, mesh),
        steps=jax.jit(mapped, donate_argnums=0),
        whole=lambda state: state,
        scatter=lambda state: state,
    )


def pmap_runner(step: Callable, mesh: Mesh) -> Runner:
    """`pmap`, for one process: the state is stacked, one copy for each device."""
    devices = list(mesh.devices.flat)

    def scatter(state: State) -> State:
        return jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), (len(devices), *leaf.shape)), state)

    first = jax.sharding.SingleDeviceSharding(devices[0])

    def place(batch: Batch) -> Batch:
        return jax.tree.map(lambda rows: rows.reshape(len(rows), len(devices), -1, *rows.shape[2:]), batch)

    axes = 0, 1, None
    mapped = jax.pmap(steps_of(step), axis_name="devices", devices=devices, in_axes=axes, donate_argnums=0)

    def first_metrics(state, batches, count):
        state, metrics = mapped(state, batches, count)
        return state, jax.tree.map(lambda copies: copies[0], metrics)

    return Runner(
        init=lambda make_state, *arguments: scatter(jax.jit(make_state)(*arguments)),
        abstract=lambda make_state, *arguments: shapes(jax.eval_shape(make_state, *arguments), first),
        place=place,
        steps=first_metrics,
        whole=lambda state: jax.tree.map(lambda copies: copies[0], state),
        scatter=scatter,
    )


# runner -> (how to make it, the axis that the step sums over)
RUNNERS = {
    "jit": (jit_runner, None),
    "shard_map": (shard_map_runner, ROWS),
    "pmap": (pmap_runner, "devices"),
}
