"""Invalid user input."""


class UserError(ValueError):
    """One line: what is wrong, where, and what would be accepted. The command line prints it and exits with 2."""


def one_line(error: BaseException) -> str:
    """The type of an error and the first line of its text."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
