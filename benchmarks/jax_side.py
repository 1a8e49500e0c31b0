"""Our side of train_step.py: the package's own step. Writes its weights and corrupted batches for the other side."""

import sys

from mdlm_jax.training.malloc import keep_freed_memory

if "--tuned" in sys.argv:
    keep_freed_memory()

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import workload

from mdlm_jax.data import Batch, Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES, Objective
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import look
from mdlm_jax.training.noise import noise_of
from mdlm_jax.training.optimizer import adamw, hyperparameters
from mdlm_jax.training.step import State, StepOptions, initial_state, make_train_step


def main(name: str, folder: pathlib.Path) -> None:
    w = workload.WORKLOADS[name]
    architecture = Architecture(w.vocab_size, w.layers, w.width, w.heads, w.heads, w.mlp_width)
    model = transformer(architecture, Execution(use_segments=False, attention=w.attention))
    objective = OBJECTIVES[w.objective](w.vocab_size, *([linear()] if w.objective == "masked" else []))
    optimizer = adamw(
        decay="constant",
        final=1.0,
        beta_1=workload.BETAS[0],
        beta_2=workload.BETAS[1],
        epsilon=workload.EPSILON,
        clip=workload.CLIP,
        decay_everything=False,
    )
    numbers = hyperparameters(workload.LEARNING_RATE, workload.WEIGHT_DECAY, warmup_steps=0, total_steps=workload.STEPS)
    state = initial_state(model, objective, optimizer, 0.0, np.uint32(0), numbers)
    tokens = np.random.default_rng(0).integers(w.vocab_size, size=(w.batch_size, w.length), dtype=np.int32)
    example = Example(tokens, np.ones_like(tokens), np.zeros(tokens.shape, bool))
    batch = jax.tree.map(jnp.asarray, Batch(example, np.arange(w.batch_size, dtype=np.int32)))
    write_inputs(folder, objective, state, batch)

    options = StepOptions(w.batch_size, loss_chunk=w.loss_chunk)
    train_step = jax.jit(make_train_step(model, objective, optimizer, options), donate_argnums=0)
    square = jnp.ones((workload.MATMUL_WIDTH, workload.MATMUL_WIDTH))
    product = jax.jit(jnp.matmul)

    def step(count: int) -> float:
        nonlocal state
        state, metrics = jax.block_until_ready(train_step(state, batch))
        return float(metrics["loss"])

    workload.serve(step, lambda: product(square, square).block_until_ready(), jax.__version__)


def write_inputs(folder: pathlib.Path, objective: Objective, state: State, batch: Batch) -> None:
    """The weights at the start, and what the network reads and is scored on at every step."""
    leaves = jax.tree.leaves_with_path(state.params)
    np.savez(folder / "weights.npz", **{"/".join(key.key for key in path): leaf for path, leaf in leaves})

    @jax.jit
    def view(step):
        keys, u = noise_of(state.key, step, batch.index, batch.index.size)
        return look(objective, state.phi, keys, batch.example, u)

    views = [view(step) for step in range(workload.STEPS)]
    fields = {name: np.stack([getattr(view, name) for view in views]) for name in ("tokens", "targets", "weight")}
    np.savez(folder / "views.npz", **fields)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
