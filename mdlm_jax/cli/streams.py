"""The standard streams of the command: no work ends because a message cannot be shown."""

import contextlib
import io
import os
import sys
from typing import TextIO, cast


def prepare_streams() -> None:
    """Opens streams that are closed. A terminal without UTF-8 shows ? for characters that it cannot encode."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # else the next file gets the number of the stream, and what libraries print is written into that file
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for the whole process
    for stream in (sys.stdout, sys.stderr):
        cast(io.TextIOWrapper, stream).reconfigure(errors="replace")
    sys.stderr = cast(TextIO, Messages(sys.stderr))


class Messages:
    """A stream that loses what cannot be written, as where the disk of a log is full or the terminal has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, or loses it; its length."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if it can be written to."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
