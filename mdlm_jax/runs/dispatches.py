"""Which steps are dispatched together. Results do not depend on it, only the time that the host takes."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from mdlm_jax.data import Batch
from mdlm_jax.training.dispatch import stacked

SECONDS = 0.25  # of a dispatch: a signal is answered at its end
MOST = 128  # steps of a dispatch
BYTES = 2**26  # of the batches of a dispatch


class Dispatch(NamedTuple):
    """Steps that are dispatched together."""

    before: int  # steps taken before them
    count: int
    batches: Any  # on the device
    waited: float  # seconds until the data were read


class Taken(NamedTuple):
    """Steps that were dispatched together, after their end."""

    before: int  # steps taken before them
    count: int
    metrics: dict  # on the host, with an axis of at least `count` steps first
    clocks: dict  # seconds that are reported with each
    ended: float  # time.perf_counter


def num_steps(step: int, steps: int, every: Sequence[int], most: int, seconds: float, at: Sequence[int] = ()) -> int:
    """How many steps to dispatch together.

    Args:
        step: Steps taken so far.
        steps: Steps of the run.
        every: A dispatch ends at each multiple of these; 0: no such end.
        most: The most steps of a dispatch.
        seconds: Measured seconds of a step; infinity before the first measurement.
        at: A dispatch ends at each of these steps.
    """
    ends = [steps - step, *(number - step % number for number in every if number)]
    ends += [number - step for number in at if number > step]
    return max(1, min(*ends, most, math.floor(SECONDS / max(seconds, 1e-9))))


def most_steps(batches: Sequence[Batch]) -> int:
    """The most steps of a dispatch, from one batch of every member.

    It depends on nothing else, so runs that differ in length or in how often they log share a compiled program.
    """
    return max(1, min(MOST, BYTES // sum(rows.nbytes for rows in jax.tree.leaves(batches))))


def reader(
    arriving: Sequence[Iterator[Batch]],
    place: Callable[[Sequence[Batch]], Any],
    steps: int,
    every: Sequence[int],
    at: Sequence[int] = (),
) -> Callable[[int, float], Dispatch]:
    """Makes a function that reads the steps to dispatch next: (steps taken so far, seconds of a step) -> Dispatch.

    Args:
        arriving: The batches of each member, step by step.
        place: Each member's batches, with an axis of steps first -> the joint batches on devices.
        steps: Steps of the run.
        every: A dispatch ends at each multiple of these; 0: no such end.
        at: A dispatch ends at each of these steps.
    """
    most = 0

    def read(step: int, seconds: float) -> Dispatch:
        nonlocal most
        begun = time.perf_counter()
        rows = [[next(one)] for one in arriving]
        most = most or most_steps([first for (first,) in rows])
        count = num_steps(step, steps, every, most, seconds, at)
        for read, one in zip(rows, arriving, strict=True):
            read += [next(one) for _ in range(count - 1)]
        waited = time.perf_counter() - begun
        return Dispatch(step, count, place([stacked(read, most) for read in rows]), waited)

    return read


def agreed(seconds: float) -> float:
    """What the first process has measured: all processes must dispatch the same steps."""
    return float(multihost_utils.broadcast_one_to_all(np.float32(seconds))) if jax.process_count() > 1 else seconds
