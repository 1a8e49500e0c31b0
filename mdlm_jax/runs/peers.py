"""Ends the processes of one run together, so that none waits for one that is gone."""

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
    """Ends this process at once if another is gone, or on an error that the others do not share.

    An orderly exit closes checkpoints and leaves jax.distributed, which waits for the others for a minute or more. The
    others notice a lost connection in seconds. With one process this does nothing.
    """
    try:
        yield
    except (BadLoss, RunFailed):  # every process raises these at the same step
        raise
    except Exception as error:
        if jax.process_count() == 1:
            raise
        known = isinstance(error, UserError)
        if not known:
            traceback.print_exc()
        cause = str(error).splitlines()[0]
        print(
            f"mdlm-jax: process {jax.process_index()} of {jax.process_count()} stops ({cause}), or another did; run "
            "the same command in all processes to resume from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2 if known else 1)
