"""`mdlm-jax` and `python -m mdlm_jax`: the command as a process."""

from mdlm_jax.interrupts import end_on_interrupt


def start() -> None:
    """Runs the command. Ctrl-C ends it in one line even while its modules load."""
    end_on_interrupt()
    from mdlm_jax.cli.main import command

    command()


if __name__ == "__main__":
    start()
