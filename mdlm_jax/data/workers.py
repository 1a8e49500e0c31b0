"""Processes that work in parallel, in order, and end with the process that started them."""

import collections
import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import queue
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from typing import Any

from mdlm_jax.errors import UserError

WAITING_ITEMS = 4  # a worker: enough that none is idle, few enough that a corpus need not fit in memory


@contextlib.contextmanager
def open_workers(count: int, function: Callable[[Any], Any]) -> Iterator[Callable[[Iterable], Iterator]]:
    """Starts processes that apply `function`. Where the block ends by an error or Ctrl-C, they are killed at once.

    Each has its own pipe, and the parent keeps none of the far ends: whichever side dies, the other one notices. (Of
    concurrent.futures, a worker that is killed while it sends a result leaves a pool that never shuts down.)

    Yields:
        A function from items to pairs (item, function(item)), in order.

    Raises:
        UserError: A worker was killed, or cannot be started.
    """
    # Spawned, because a fork of a process in which JAX runs threads may never return.
    context = multiprocessing.get_context("spawn")
    processes, idle = [], queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(count))
        stack.callback(_end, processes)
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        with _without_interrupts():
            for number in range(count):
                try:
                    near, far = context.Pipe()
                    process = context.Process(target=_serve, args=(far, function), daemon=True)
                    process.start()
                except OSError as error:
                    raise UserError(
                        f"--workers={count}: process {number + 1} cannot be started ({error.strerror}); accepted: fewer"
                    ) from error
                processes.append(process)
                far.close()
                idle.put(near)
        yield functools.partial(_in_order, threads, functools.partial(_call, idle), count * WAITING_ITEMS)


def _end(processes: list[Any]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _in_order(threads: ThreadPoolExecutor, call: Callable, ahead: int, items: Iterable) -> Iterator[tuple[Any, Any]]:
    """Pairs in order, with few items under way: `map` would read them all at once."""
    waiting = collections.deque()
    items = iter(items)
    for item in itertools.islice(items, ahead):
        waiting.append((item, threads.submit(call, item)))
    while waiting:
        item, future = waiting.popleft()
        yield item, future.result()
        for following in itertools.islice(items, 1):
            waiting.append((following, threads.submit(call, following)))


def _call(idle: queue.SimpleQueue, item: Any) -> Any:
    """The result of one item, from a worker that has nothing else to do."""
    worker = idle.get()
    try:
        worker.send(item)
        result, error = worker.recv()
    except (EOFError, OSError) as ended:
        raise UserError(
            "a worker process was killed, perhaps because memory ran out; fewer --workers need less memory"
        ) from ended
    finally:
        idle.put(worker)
    if error is not None:
        raise error
    return result


def _serve(parent: multiprocessing.connection.Connection, function: Callable[[Any], Any]) -> None:
    """Answers the parent until it closes the pipe or dies. Ctrl-C is for the parent to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            item = parent.recv()
            try:
                answer = function(item), None
            except Exception as error:
                answer = None, error
            parent.send(answer)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started here inherit a mask that keeps Ctrl-C from them, which reaches every process of a terminal."""
    resource_tracker.ensure_running()  # it unblocks the signal where it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
