"""`mdlm-jax` and `python -m mdlm_jax`: the command as a process."""

import sys

from mdlm_jax.interrupts import end_on_interrupt

COMPUTE = ("train", "evaluate", "sample", "harness", "bench")  # verbs that run networks in this process


def start() -> None:
    """Runs the command. Ctrl-C ends it in one line even while its modules load."""
    end_on_interrupt()
    if sys.argv[1:2] and sys.argv[1] in COMPUTE:
        from mdlm_jax.cli.devices import on_a_cpu
        from mdlm_jax.malloc import ask_for_huge_pages

        if on_a_cpu():
            ask_for_huge_pages()
    from mdlm_jax.cli.main import command

    command()


if __name__ == "__main__":
    start()
