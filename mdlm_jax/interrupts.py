"""Ctrl-C ends the command within a second with one line and exit code 130, even during compilation."""

import os
import signal
import socket
import threading
from types import FrameType

EXIT_CODE = 130  # 128 + SIGINT, as shells have it
SHOW_CURSOR = b"\x1b[?25h"  # tables that renew themselves hide it


def end_on_interrupt() -> None:
    """From now on Ctrl-C ends this process at once, even while XLA compiles.

    Python runs signal handlers only between its own instructions, so a long compilation delays them. The interpreter's
    C handler writes the signal number to a socket at once, and a thread reads it. If other code has set its own
    handler, as training does to save its state, only that handler acts.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # a shell starts background jobs with SIGINT ignored
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.signal(signal.SIGINT, _left_to_the_thread)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(receiver, sender), daemon=True).start()


def end_now(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """A signal handler that ends the process."""
    if os.isatty(1):
        os.write(1, SHOW_CURSOR)
    os.write(2, b"\nmdlm-jax: interrupted\n")
    os._exit(EXIT_CODE)


def _left_to_the_thread(number: int, frame: FrameType | None) -> None:
    pass


def _watch(receiver: socket.socket, sender: socket.socket) -> None:  # holds both ends open
    while received := receiver.recv(64):
        if signal.SIGINT in received and signal.getsignal(signal.SIGINT) is _left_to_the_thread:
            end_now()
