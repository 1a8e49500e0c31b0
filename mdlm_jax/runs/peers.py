"""The processes of one run end together: none waits for one that is gone."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import jax

from mdlm_jax.errors import UserError
from mdlm_jax.runs.rewind import BadLoss, RunFailed


@contextlib.contextmanager
def end_together() -> Iterator[None]:
    """Ends this process at once when another is gone, or when something goes wrong that the others do not know of.

    To close checkpoints and to leave jax.distributed in order is to wait for the others, a minute or more. A lost
    connection they notice in seconds. Does nothing where there is one process.
    """
    try:
        yield
    except (BadLoss, RunFailed):  # of all processes, at the same step
        raise
    except Exception as error:
        if jax.process_count() == 1:
            raise
        known = isinstance(error, UserError)
        if not known:
            traceback.print_exc()
        print(
            f"mdlm-jax: process {jax.process_index()} of {jax.process_count()} ends ({str(error).splitlines()[0]}), or "
            "another did before it; the same command, given to all, goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2 if known else 1)
