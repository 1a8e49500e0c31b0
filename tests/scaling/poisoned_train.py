"""`mdlm-jax train --run FOLDER` in which the loss is NaN once, at step 20, where the file `poison` is in FOLDER."""

import pathlib
import sys

import jax.numpy as jnp

from mdlm_jax import cli
from mdlm_jax.training import loop

folder = pathlib.Path(sys.argv[1])
make_train_step = loop.make_train_step


def make_poisoned_step(*arguments):
    train_step = make_train_step(*arguments)

    def poisoned(state, batch):
        new, metrics = train_step(state, batch)
        here = new.step == 20
        bad = {"loss": jnp.where(here, jnp.nan, metrics["loss"]), "bad": metrics["bad"] | here}
        return new, metrics | bad

    return poisoned


if (folder / "poison").exists():
    (folder / "poison").unlink()
    loop.make_train_step = make_poisoned_step
cli.main(["train", "--run", str(folder)])
