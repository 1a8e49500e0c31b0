"""Invalid user input, and the first line of other errors."""

from collections.abc import Iterator


class UserError(ValueError):
    """Invalid user input. The message is one line: what is wrong, where, and what is accepted instead.

    The command line prints the message and exits with code 2.
    """


def one_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and the errors that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def out_of_memory(error: BaseException) -> str:
    """One line if the error, or one that led to it, is a failed allocation; else empty."""
    for cause in causes(error):
        text = str(cause)
        if isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in text or "std::bad_alloc" in text:
            line = next(iter(text.splitlines()), "").removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
            return f"out of memory ({line})" if line else "out of memory"
    return ""
