"""`mdlm-jax train --run FOLDER`, hindered by files in FOLDER.

Where `poison` is at the start, the loss is NaN once, at step 20. Where `hold` is at the start, every step takes half a
second more for as long as it is there.
"""

import pathlib
import sys
import time

import jax
import jax.numpy as jnp

from mdlm_jax.cli import main as cli
from mdlm_jax.runs import loop

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


def make_held_step(*arguments):
    train_step = make_train_step(*arguments)

    def held(state, batch):
        jax.debug.callback(lambda: time.sleep(0.5) if (folder / "hold").exists() else None)
        return train_step(state, batch)

    return held


if (folder / "poison").exists():
    (folder / "poison").unlink()
    loop.make_train_step = make_poisoned_step
if (folder / "hold").exists():
    loop.make_train_step = make_held_step
cli.main(["train", "--run", str(folder)])
