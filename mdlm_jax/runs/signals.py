"""Being told to end: SIGTERM from a scheduler, Ctrl-C from a person."""

import signal
import threading
from collections.abc import Callable

import jax
import orbax.checkpoint as ocp


def stop_requested(checkpoints: ocp.CheckpointManager) -> Callable[[int], bool]:
    """step -> was this run told to end? Several processes agree on the step, through `jax.distributed`."""
    if jax.process_count() > 1:
        return checkpoints.reached_preemption
    told = threading.Event()

    def tell(number, frame):
        told.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends at once

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, tell)
        signal.signal(signal.SIGINT, tell)
    return lambda step: told.is_set()
