"""Signals that end a run: SIGTERM from a scheduler, Ctrl-C from the user."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
import orbax.checkpoint as ocp

from mdlm_jax.interrupts import end_now


@contextlib.contextmanager
def stop_requested(checkpoints: ocp.CheckpointManager) -> Iterator[Callable[[int], bool]]:
    """Yields a function, step -> whether a signal requests that the run ends after it.

    Call the function after every step. Ctrl-C before the first step ends the process at once, as does a second Ctrl-C.
    Several processes agree on the step through `jax.distributed`.
    """
    if jax.process_count() > 1:
        yield checkpoints.reached_preemption
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False
        return
    stop, before = threading.Event(), {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def hear(number, frame):
        stop.set()
        signal.signal(signal.SIGINT, end_now)

    def requested(step: int) -> bool:
        if not stop.is_set():
            signal.signal(signal.SIGINT, hear)
        return stop.is_set()

    signal.signal(signal.SIGTERM, hear)
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
