"""One line to the person at the terminal."""

import sys


def say(line: str) -> None:
    """Prints a line of its own on standard error, where it does not mix with results."""
    print(f"mdlm-jax: {line}", file=sys.stderr, flush=True)
