"""A one-line error for a disk that cannot be written and for memory that is used up."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from mdlm_jax.errors import UserError, causes, out_of_memory

FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@contextlib.contextmanager
def one_line_on_exhaustion(folder: pathlib.Path) -> Iterator[None]:
    """Turns errors of a full disk and of full memory into a UserError with the cause, while a run trains in `folder`.

    The errors come from Python, XLA, Orbax or TensorStore.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if cause := _disk_fault(error):
            raise UserError(
                f"{folder} cannot be written ({cause}); its last checkpoint is whole: "
                "once the folder is writable, run the same command to resume from there"
            ) from error
        if cause := out_of_memory(error):
            raise UserError(
                f"{folder}: {cause}; its last checkpoint is whole; run the same command to resume from there, "
                "with less memory by more train.microbatches, train.remat=full or a smaller eval.batch_size"
            ) from error
        raise


def _disk_fault(error: BaseException) -> str:
    """The system's message for an error or one that caused it. TensorStore has the message in its text."""
    for cause in causes(error):
        for number in FAULTS:
            if getattr(cause, "errno", None) == number or os.strerror(number) in str(cause):
                return os.strerror(number)
    return ""
