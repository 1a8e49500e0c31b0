"""Invalid user input."""


class UserError(ValueError):
    """Invalid user input. The message is one line: what is wrong, where, and what is accepted instead.

    The command line prints the message and exits with code 2.
    """


def one_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
