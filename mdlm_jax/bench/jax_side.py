"""The train step of this package, compiled, with its memory and FLOPs."""

import json
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.bench import cases
from mdlm_jax.bench.torch_process import timed
from mdlm_jax.costs.flops import attended_pairs, flops_per_sequence, num_parameters
from mdlm_jax.data import Batch, Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives import OBJECTIVES, Objective
from mdlm_jax.objectives.base import View
from mdlm_jax.objectives.block import block
from mdlm_jax.schedules import linear
from mdlm_jax.training.dispatch import stacked, steps_of
from mdlm_jax.training.loss import look
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.sharding import jit_runner, make_mesh
from mdlm_jax.training.step import State, StepOptions, initial_state, make_train_step

MAKE = {
    "masked": lambda V, L: OBJECTIVES["masked"](V, linear()),
    "ar": lambda V, L: OBJECTIVES["ar"](V),
    "blocks": lambda V, L: block(OBJECTIVES["masked"](V, linear()), 16, L),
}


class Side(NamedTuple):
    step: Callable[[], float]  # runs the steps of one dispatch and waits for the last loss
    state: Callable[[], State]  # the current state
    compile_seconds: float
    memory_bytes: int  # state, batch and temporaries of the compiled step
    flops: float  # of a dispatch: every matrix product of positions that attend and of those with logits
    parameters: int


def make_side(case: cases.Case, folder: pathlib.Path | None = None, steps: int = 0) -> Side:
    """A step of `case` on one batch of random tokens; writes weights and `steps` views into `folder` for PyTorch."""
    mesh = make_mesh(jax.devices()[: case.devices], data=1, fsdp=case.devices)
    objective = MAKE[case.objective](case.vocab_size, case.length)
    architecture = Architecture(case.vocab_size, case.layers, case.width, case.heads, case.heads, case.mlp_width)
    execution = Execution(
        compute_dtype=jnp.dtype(case.dtype),
        float8=case.float8,
        scan_layers=case.scan_layers,
        attention=case.attention,
        use_segments=False,
        mesh=mesh if case.devices > 1 else None,
    )
    model = transformer(architecture, execution)
    optimizer = make_optimizer(
        decay="constant",
        final=1.0,
        beta_1=cases.BETAS[0],
        beta_2=cases.BETAS[1],
        epsilon=cases.EPSILON,
        clip=cases.CLIP,
        decay_everything=False,
    )
    numbers = hyperparameters(cases.LEARNING_RATE, cases.WEIGHT_DECAY, warmup_steps=0, total_steps=1)
    options = StepOptions(case.batch_size, loss_chunk=case.loss_chunk, scored_only=case.scored_only)
    one_step = make_train_step(model, objective, optimizer, options)
    tokens = np.random.default_rng(0).integers(
        case.vocab_size, size=(case.members, case.batch_size, case.length), dtype=np.int32
    )
    example = Example(tokens, np.ones_like(tokens), np.zeros(tokens.shape, bool))
    index = np.broadcast_to(np.arange(case.batch_size, dtype=np.int32), tokens.shape[:2])
    batches, seeds = jax.tree.map(jnp.asarray, (Batch(example, index), np.arange(case.members, dtype=np.uint32)))
    make_state = partial(initial_state, model, objective, optimizer, 0.0, hyperparameters=numbers)
    batch = jax.tree.map(lambda rows: rows[0], batches)
    runner, steps_per_dispatch = jit_runner(one_step, mesh), case.steps_per_dispatch
    state = runner.init(make_state, seeds[0])
    key, objective_params = state.key, state.objective_params
    train_step, read = runner.steps, runner.place(stacked([batch] * steps_per_dispatch))
    if case.members > 1:
        state, train_step, read = (
            jax.jit(jax.vmap(make_state))(seeds),
            jax.jit(steps_of(jax.vmap(one_step)), donate_argnums=0),
            stacked([batches]),
        )

    @jax.jit
    def view(step) -> View:
        keys, u = noise_of(key, step, batch.index, case.batch_size)
        return look(objective, objective_params, keys, batch.example, u)

    first = view(0)
    if folder is not None:
        _write_inputs(folder, case, state, [view(step) for step in range(steps)])
    compiled: Any = None

    def compile_step() -> float:
        nonlocal compiled
        compiled = train_step.lower(state, read, steps_per_dispatch).compile()
        return 0.0

    compiling = timed(compile_step)

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, read, steps_per_dispatch)
        return float(metrics["loss"].mean())

    memory = compiled.memory_analysis()
    return Side(
        step,
        lambda: state,
        compiling.seconds,
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        _flops(case, objective, architecture, first),
        num_parameters(architecture).total,
    )


def in_turns(side: Side, reference: Side, rounds: int) -> list[dict]:
    """Both run one step in every round, each of them first in half of the rounds; the first round is a warm-up."""
    turns = []
    for turn in range(rounds + 1):
        order = [("ours", side), ("base", reference)]
        turns.append({label: timed(one.step)._asdict() for label, one in (order if turn % 2 else order[::-1])})
    return turns[1:]


def _flops(case: cases.Case, objective: Objective, architecture: Architecture, view: View) -> float:
    positions, scored = view.tokens.shape[1], view.targets.shape[1]
    if case.scored_only:
        scored = round(float((view.weight != 0).mean()) * scored)
    one = flops_per_sequence(
        architecture,
        sequence_length=case.length,
        pairs=attended_pairs(objective.mask, positions),
        positions=positions,
        scored=scored,
        noise_levels=view.t.shape[1],
        views=objective.views,
    )
    return float(case.members * case.batch_size * case.steps_per_dispatch * one.exact)


def _write_inputs(folder: pathlib.Path, case: cases.Case, state: State, views: list[View]) -> None:
    """Writes the initial weights, and the inputs, targets and weights of every step."""
    leaves = jax.tree.leaves_with_path(state.params)
    arrays: dict[str, Any] = {"/".join(key.key for key in path): leaf for path, leaf in leaves}
    np.savez(folder / "weights.npz", **arrays)
    fields: dict[str, Any] = {
        name: np.stack([getattr(view, name) for view in views]) for name in ("tokens", "targets", "weight")
    }
    np.savez(folder / "views.npz", **fields)
    (folder / "case.json").write_text(json.dumps(case._asdict()))


class Rates(NamedTuple):
    """Measured peak rates of the device, from which the lower bounds follow."""

    matmul: float  # FLOP/s of a large square product
    copy: float  # bytes/s, read and written together


def measured_rates(dtype: str, width: int, rounds: int = 5) -> Rates:
    """The best of several rounds of a square product of `width` and of a copy of 256 MB (less for small products)."""
    square = jnp.ones((width, width), dtype)
    vector = jnp.ones(16 * min(width, 2048) ** 2)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)

    def best(function) -> float:
        function()
        return min(timed(function).seconds for _ in range(rounds))

    seconds = best(lambda: product(square, square).block_until_ready())
    return Rates(2 * width**3 / seconds, 2 * vector.nbytes / best(lambda: copy(vector).block_until_ready()))
