"""The loss from hidden states, computed in chunks: the logits [B, L, V] never exist at once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from mdlm_jax.models.layers import head_of
from mdlm_jax.models.layout import POSITIONS, gather, rows_of
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import Objective, View, spans
from mdlm_jax.training.scored_positions import scored_first, to_views


def look(objective: Objective, objective_params: Any, keys: Array, example: Any, u: Float[Array, "B"]) -> View:
    """Draws the views of B examples.

    Args:
        objective: The objective.
        objective_params: The objective's own parameters.
        keys: One key for each example, [B].
        example: The examples, with a leading axis B.
        u: The noise level of each example, uniform in [0, 1).

    Returns:
        A View with a leading axis B K: the K views of an example are adjacent.
    """
    views = jax.vmap(objective.view, (None, 0, 0, 0))(objective_params, keys, example, u)
    return jax.tree.map(lambda field: field.reshape(-1, *field.shape[2:]), views)


def nats(
    model: Model,
    objective: Objective,
    params: Any,
    objective_params: Any,
    view: View,
    chunk: int,
    dropout_keys: Array | None = None,
    scored_only: bool = False,
) -> tuple[Float[Array, ""], Float[Array, "n"]]:
    """The nats of n views.

    Args:
        model: The network.
        objective: The objective.
        params: The parameters of the network.
        objective_params: The objective's own parameters.
        view: The views, with a leading axis n.
        chunk: Positions of each view whose logits exist at once.
        dropout_keys: One key for each view, or None for no dropout.
        scored_only: Compute logits only at positions whose weight is not 0.

    Returns:
        The sum over views, which carries the gradient, and the nats of each view, which carry none.
    """
    params = {**params, "ends": gather(model.mesh, params["ends"])}
    hidden, _ = model.hidden(params, view, objective.mask, dropout_keys=dropout_keys)
    num_scored = view.targets.shape[1]
    if view.read_at is None:
        hidden = hidden[:, :num_scored]
    else:
        hidden = jnp.take_along_axis(hidden, view.read_at[..., None], axis=1)
    positions = _part_of(view._replace(opened=None, read_at=None), 0, num_scored)  # no loss of a position reads them
    of_positions = partial(_nats_of_positions, model.head, objective.token_loss, scored_only)
    run = partial(_where_they_lie, model.mesh, of_positions, chunk)
    if not objective.parts:
        total, each = run(params["ends"], objective_params, hidden, positions)
        return total + view.constant.sum(), each.sum(axis=1) + view.constant
    total, nats_of_views = view.constant.sum(), view.constant
    for start, stop, ids in spans(objective.parts, num_scored):
        part = _part_of(positions, start, stop)
        part = part._replace(targets=part.targets - ids[0])
        part_total, each = run(head_of(params["ends"], *ids), objective_params, hidden[:, start:stop], part)
        total, nats_of_views = total + part_total, nats_of_views + each.sum(axis=1)
    return total, nats_of_views


def _part_of(view: View, start: int, stop: int) -> View:
    """The positions from `start` up to `stop`."""
    return jax.tree.map(lambda field: field if _shared(field) else field[:, start:stop], view)


def _shared(field: Array) -> bool:
    """Whether a field has one value for all positions of a view."""
    return field.ndim == 1 or field.shape[1] == 1


def _where_they_lie(mesh: Mesh | None, of_positions, chunk: int, ends, objective_params, hidden, view):
    """The sum of the nats and those of each position. Each device computes its own rows and positions.

    Gradients of the head are then summed over devices once. XLA by itself would sum them in every chunk.
    """
    if mesh is None:
        return of_positions(chunk, ends, objective_params, hidden, view)
    chunk = max(chunk // (mesh.shape["sequence"] * mesh.shape["tensor"]), 1)
    rows = rows_of(mesh, len(hidden))

    def local(ends, objective_params, hidden, view):
        total, each = of_positions(chunk, ends, objective_params, hidden, view)
        return total[None], each

    lies = jax.tree.map(lambda field: P(rows) if _shared(field) else P(rows, POSITIONS), (hidden, view))
    out_specs = P(rows + POSITIONS), P(rows, POSITIONS)
    totals, each = jax.shard_map(local, mesh=mesh, in_specs=(P(), P(), *lies), out_specs=out_specs, check_vma=False)(
        ends, objective_params, hidden, view
    )
    return totals.sum(), each


def _nats_of_positions(head, token_loss, scored_only: bool, chunk: int, ends, objective_params, hidden, view):
    shape = hidden.shape[:2]
    if not scored_only:
        return _chunked(head, token_loss, largest_divisor(shape[1], chunk), ends, objective_params, hidden, view, None)
    first = scored_first(hidden, view)
    size = largest_divisor(first.order.shape[1], chunk * shape[0])
    total_and_each: Any = _chunked(
        head, token_loss, size, ends, objective_params, first.hidden, first.view, first.count
    )
    total, each = total_and_each
    return total, to_views(each, first.order, shape)


def largest_divisor(length: int, at_most: int) -> int:
    """The largest divisor of `length` that is not above `at_most`."""
    return next(size for size in range(min(at_most, length), 0, -1) if length % size == 0)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _chunked(head, token_loss, size, ends, objective_params, hidden, view, count):
    each, _ = _over_chunks(head, token_loss, size, ends, objective_params, hidden, view, count, with_gradient=False)
    return each.sum(), each


def _over_chunks(head, token_loss, size, ends, objective_params, hidden, view, count, *, with_gradient):
    """The nats of each position, and the gradient of their sum with respect to (ends, objective_params, hidden).

    The gradient is computed while the logits of a chunk exist, so the backward pass needs no logits. Plain
    rematerialisation would compute the head a second time. Only the first `count` positions have nats; None: all may.
    """
    positions = hidden.shape[1]
    num_chunks = positions // size if count is None else -(-count // size)

    def chunk_nats(ends, objective_params, hidden, view):
        each = token_loss(objective_params, head({"ends": ends}, hidden), view)
        return each.sum(), each

    def body(index, carry):
        def at(field):
            return field if _shared(field) else jax.lax.dynamic_slice_in_dim(field, index * size, size, axis=1)

        def put(whole, part):
            return jax.lax.dynamic_update_slice_in_dim(whole, part, index * size, axis=1)

        each, gradients, d_hidden = carry
        part = jax.tree.map(at, view)
        if not with_gradient:
            return put(each, chunk_nats(ends, objective_params, at(hidden), part)[1]), gradients, d_hidden
        slope = jax.value_and_grad(chunk_nats, argnums=(0, 1, 2), has_aux=True)
        (_, part_each), (d_ends, d_phi, d_part) = slope(ends, objective_params, at(hidden), part)
        return put(each, part_each), jax.tree.map(jnp.add, gradients, (d_ends, d_phi)), put(d_hidden, d_part)

    sums = (ends, objective_params, hidden) if with_gradient else ((), (), ())
    d_ends, d_phi, d_hidden = jax.tree.map(jnp.zeros_like, sums)
    start = jnp.zeros(hidden.shape[:2]), (d_ends, d_phi), d_hidden
    each, gradients, d_hidden = jax.lax.fori_loop(0, num_chunks, body, start)
    return each, (*gradients, d_hidden)


def _forward(head, token_loss, size, ends, objective_params, hidden, view, count):
    each, gradients = _over_chunks(
        head, token_loss, size, ends, objective_params, hidden, view, count, with_gradient=True
    )
    return (each.sum(), each), gradients


def _backward(head, token_loss, size, gradients, cotangents):
    d_total, _ = cotangents  # the nats of each position are for reporting: only their sum carries a gradient
    return (*jax.tree.map(lambda gradient: gradient * d_total, gradients), None, None)


_chunked.defvjp(_forward, _backward)
