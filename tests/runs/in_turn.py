"""python -m tests.runs.in_turn [--until STEP] '[["train", "--run", ..], ..]': commands in turn, in one process.

They share the imports and the devices of the process. Prints their exit codes as JSON. With --until, the step after
STEP asks XLA for more memory than there is, and it fails as a step that is too large does: by XLA's own allocator.
"""

import json
import sys

import jax.numpy as jnp

from mdlm_jax.cli.main import main
from mdlm_jax.runs import loop

TOO_MUCH = 2**46  # numbers of 4 bytes
alone = loop.alone


def failing_after(last: int):
    def program(runner):
        made = alone(runner)

        def steps(state, batches, count):
            new, metrics = made.steps(state, batches, count)
            if int(new.step) > last:
                jnp.zeros(TOO_MUCH)
            return new, metrics

        return made._replace(steps=steps)

    return program


def code_of(arguments: list[str]) -> int:
    """The exit code of one command."""
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code
    raise AssertionError("main returned")


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--until":
        loop.alone, words = failing_after(int(words[1])), words[2:]
    print(json.dumps([code_of(arguments) for arguments in json.loads(words[0])]))
