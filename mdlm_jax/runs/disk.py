"""A one-line error for a disk that cannot be written."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from mdlm_jax.errors import UserError

FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@contextlib.contextmanager
def one_line_on_disk_faults(folder: pathlib.Path) -> Iterator[None]:
    """Turns errors of Python, Orbax and TensorStore when writing fails into a UserError with the cause."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if cause := _cause(error):
            raise UserError(
                f"{folder} cannot be written ({cause}); its last checkpoint is whole: "
                "once the folder is writable, run the same command to resume from there"
            ) from error
        raise


def _cause(error: BaseException | None) -> str:
    """The system's message for an error or one that caused it. TensorStore has the message in its text."""
    while error is not None:
        for number in FAULTS:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return ""
