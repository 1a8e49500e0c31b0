"""A train step with each optimiser against the same with AdamW: SMDM's 6M model, V = 32,000, 2 rows of 2,048 tokens.

    python benchmarks/optimizers.py

Steps of an optimiser and of AdamW alternate in one process, so that both run under equal load; the ratios, of wall time
and of CPU time, are medians over turns. Writes results/optimizers.json.
"""

import json
import os
import pathlib
import statistics
import time

from mdlm_jax.malloc import ask_for_huge_pages, set_up_malloc

if __name__ == "__main__":
    ask_for_huge_pages()
    set_up_malloc()

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.costs.flops import attended_pairs, flops_per_sequence, optimizer_flops
from mdlm_jax.data import Batch, Example
from mdlm_jax.files import write_whole
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.schedules import linear
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.step import StepOptions, initial_state, make_train_step

V, LENGTH, BATCH, TURNS = 32000, 2048, 2, 3
SMDM_6M = Architecture(V, layers=6, width=256, heads=4, key_value_heads=4, mlp_width=1024)
OTHERS = ("muon",)


def trained(name: str):
    """A compiled step on one batch of random tokens, as a function that takes it."""
    model, objective = transformer(SMDM_6M, Execution(use_segments=False, attention="blocked")), masked()
    optimizer = make_optimizer(
        name, decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )
    state = initial_state(model, objective, optimizer, 0.0, np.uint32(0), hyperparameters(1e-3, 0.0, 0, 100))
    tokens = np.random.default_rng(0).integers(V, size=(BATCH, LENGTH)).astype(np.int32)
    example = Example(tokens, np.ones_like(tokens), np.zeros(tokens.shape, bool))
    batch = jax.tree.map(jnp.asarray, Batch(example, np.arange(BATCH, dtype=np.int32)))
    step = jax.jit(make_train_step(model, objective, optimizer, StepOptions(BATCH)), donate_argnums=0)

    def take() -> None:
        nonlocal state
        state, _ = step(state, batch)
        jax.block_until_ready(state)

    return take


def masked():
    return OBJECTIVES["masked"](V, linear())


def measured(name: str) -> dict:
    steps = trained(name), trained("adamw")
    for step in steps:
        step()
    wall, cpu = [], []
    for turn in range(TURNS):
        spent = [(0.0, 0.0), (0.0, 0.0)]
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter(), time.process_time()
            steps[which]()
            spent[which] = time.perf_counter() - start[0], time.process_time() - start[1]
        wall.append([one[0] for one in spent])
        cpu.append([one[1] for one in spent])
    pairs = attended_pairs(masked().mask, LENGTH)
    of_model = flops_per_sequence(
        SMDM_6M, sequence_length=LENGTH, pairs=pairs, positions=LENGTH, scored=LENGTH, noise_levels=1, views=1
    )
    return {
        "ratio": statistics.median(ours / base for ours, base in wall),
        "ratio_in_cpu_time": statistics.median(ours / base for ours, base in cpu),
        "flops": optimizer_flops(SMDM_6M, name),
        "flops_over_those_of_the_model": optimizer_flops(SMDM_6M, name) / (BATCH * of_model.exact),
        "seconds": wall,
        "cpu_seconds": cpu,
    }


def main() -> None:
    found = {name: measured(name) for name in OTHERS}
    for name, result in found.items():
        print(name, {key: round(value, 4) for key, value in result.items() if not isinstance(value, list)})
    path = pathlib.Path(__file__).parent / "results" / "optimizers.json"
    write_whole(path, json.dumps({"jax": jax.__version__, "cpu_count": os.cpu_count(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
