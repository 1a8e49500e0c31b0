"""Several train steps in one program. How many of them run is an argument, so results do not depend on it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.data import Batch


def steps_of(step: Callable[[Any, Batch], tuple[Any, dict]]) -> Callable[[Any, Batch, Int[Array, ""]], tuple]:
    """Makes a program of many steps from one step.

    The loop has a traced number of turns. One step and a hundred steps are therefore the same compiled code, and their
    results are equal bit by bit.

    Args:
        step: (state, batch) -> (state, metrics), as `make_train_step` makes it.

    Returns:
        (state, batches, count) -> (state, metrics). `batches` has an axis of N steps before the axes of a batch, and
        each metric has such an axis too. The first `count` <= N steps are taken; metrics of the others are 0.
    """
    traced_once = jax.jit(step, inline=True)

    def steps(state, batches: Batch, count):
        def batch(i) -> Batch:
            return jax.tree.map(lambda rows: jax.lax.dynamic_index_in_dim(rows, i, keepdims=False), batches)

        def turn(i, carry):
            state, metrics = carry
            state, new = traced_once(state, batch(i))
            return state, jax.tree.map(lambda values, value: values.at[i].set(value), metrics, new)

        shapes = jax.eval_shape(lambda: traced_once(state, batch(0))[1])
        num = jax.tree.leaves(batches)[0].shape[0]
        metrics = jax.tree.map(lambda value: jnp.zeros((num, *value.shape), value.dtype), shapes)
        return jax.lax.fori_loop(0, count, turn, (state, metrics))

    return steps


def stacked(batches: Sequence[Batch], num: int | None = None) -> Batch:
    """Batches of consecutive steps as one, with an axis of steps first.

    Args:
        batches: One for each step, in memory of the host.
        num: Length N of the axis, at least as many as there are batches; None: as many. What is left is 0.
    """

    def stack(*rows):
        found = np.zeros((num or len(rows), *rows[0].shape), rows[0].dtype)
        np.stack(rows, out=found[: len(rows)])
        return found

    return jax.tree.map(stack, *batches)
