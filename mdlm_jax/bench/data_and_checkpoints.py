"""Speed of the data pipeline and of asynchronous checkpoints."""

import pathlib
import time

import jax

from mdlm_jax.errors import UserError
from mdlm_jax.runs import checkpoint
from mdlm_jax.training.step import State

ROWS = 16  # of a batch of data


def data_tokens_per_second(length: int, batches: int) -> float:
    """Tokens per second from the standard library's source text as bytes, in rows of `length`, after opening it.

    Raises:
        UserError: A package that reads it is not installed.
    """
    try:
        from mdlm_jax.data.pipeline import open_data
    except ImportError as error:
        raise UserError(f"rows of data are not measured: {error.name} is not installed") from error
    data = open_data(
        source="stdlib",
        path="",
        validation_path="",
        field="text",
        tokenizer="bytes",
        sequence_length=length,
        extra_token=False,
        keep_documents=False,
        random_length_rate=0.0,
        unique_tokens=0,
        epochs=0,
        seed=0,
        batch_size=ROWS,
        validation_rows=ROWS,
    )
    rows = data.batches(0)
    next(rows)
    start = time.perf_counter()
    for _ in range(batches):
        next(rows)
    return batches * ROWS * length / (time.perf_counter() - start)


def checkpoint_seconds(state: State, folder: pathlib.Path) -> dict:
    """Seconds that a save blocks training, and seconds until it is on disk, for the second save of a process."""
    with checkpoint.open_checkpoints(folder) as checkpoints:
        for step in (1, 2):
            start = time.perf_counter()
            checkpoint.save(checkpoints, step, state)
            stalled = time.perf_counter() - start
            checkpoints.wait_until_finished()
            saved = time.perf_counter() - start
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return {"stall_seconds": stalled, "saved_seconds": saved, "bytes": size}
