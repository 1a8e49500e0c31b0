"""Several steps in one program, against the same steps taken one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Batch, Example
from mdlm_jax.training.dispatch import stacked, steps_of


def batch_of(number: int) -> Batch:
    rows = np.full((2, 3), number, np.int32)
    return Batch(Example(rows, rows + 1, rows > 3), np.arange(2, dtype=np.int32))


def step(state, batch: Batch):
    """Depends on the order of steps and on every field of the batch; exact in integers."""
    read = batch.example.tokens.sum() + batch.example.segments[0, 0] + batch.example.prompt_mask.sum() + batch.index[1]
    state = {"value": 3 * state["value"] + read}
    return state, {"value": state["value"], "odd": state["value"] % 2 == 1}


def one_by_one(numbers) -> list[int]:
    values, value = [], 1
    for number in numbers:
        value = 3 * value + 6 * number + number + 1 + 6 * (number > 3) + 1
        values.append(value)
    return values


@pytest.mark.parametrize("counts", [[6], [1] * 6, [2, 1, 3], [0, 6]])
def test_steps_are_taken_in_order(counts):
    program = jax.jit(steps_of(step))
    state, values, left = {"value": jnp.int32(1)}, [], list(range(6))
    for count in counts:
        batches, left = stacked([batch_of(number) for number in left[:count] or [9]], 6), left[count:]
        state, metrics = program(state, batches, count)
        values += metrics["value"][:count].tolist()
        assert metrics["odd"][:count].tolist() == [value % 2 == 1 for value in values[len(values) - count :]]
        assert not metrics["value"][count:].any()
    assert values == one_by_one(range(6)) and int(state["value"]) == values[-1]
    assert program._cache_size() == 1  # one compiled program, however many steps it takes


def test_stacked_batches_keep_types_and_are_filled_with_zeros():
    found = stacked([batch_of(4), batch_of(5)], 3)
    assert found.example.tokens.tolist() == [[[4] * 3] * 2, [[5] * 3] * 2, [[0] * 3] * 2]
    assert found.example.prompt_mask.dtype == bool and found.index.dtype == np.int32
    assert stacked([batch_of(4)]).index.shape == (1, 2)
