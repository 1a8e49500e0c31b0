"""`python -m mdlm_jax`: the command `mdlm-jax`."""

from mdlm_jax.cli.main import command

if __name__ == "__main__":
    command()
