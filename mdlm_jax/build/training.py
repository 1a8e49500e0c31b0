"""What training needs besides the network: data, a mesh of devices, the optimiser and its state."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mdlm_jax.build.mesh import open_mesh
from mdlm_jax.build.network import Network, network
from mdlm_jax.build.objective import learned_density
from mdlm_jax.build.plan import Plan, plan
from mdlm_jax.build.rows import rows_of, with_rows
from mdlm_jax.configs.checks import refuse
from mdlm_jax.configs.relations import checkpoint_steps
from mdlm_jax.data.pipeline import Data, open_data
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives import Objective
from mdlm_jax.training.frozen import check_patterns
from mdlm_jax.training.optimizer import hyperparameters, learning_rate_shape, make_optimizer
from mdlm_jax.training.sharding import share_of_rows
from mdlm_jax.training.step import State, StepOptions, initial_state


class Training(NamedTuple):
    """Data, devices and the optimiser's state for one network."""

    data: Data
    mesh: Mesh
    optimizer: optax.GradientTransformation
    options: StepOptions
    make_state: Callable[..., State]
    initial: tuple  # arguments of make_state: the seed, and the hyperparameters of the optimiser


class Build(NamedTuple):
    """A network and its training."""

    plan: Plan
    model: Model
    validation_model: Model
    objective: Objective
    optimizer: optax.GradientTransformation
    options: StepOptions
    data: Data
    mesh: Mesh
    make_state: Callable[..., State]
    initial: tuple


def build(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Build:
    """Builds everything that a config describes. The rooms below take plain arguments and no config.

    Args:
        config: A config with the keys of configs/base.py.
        devices: The devices to train on; None for all of this machine, or of all processes together.

    Raises:
        UserError: The config, its data or its mesh is invalid; the message names the key.
    """
    mesh = open_mesh(config, plan(config), devices)
    net = network(config, mesh)
    training = open_training(config, net, mesh)
    return Build(
        plan=net.plan,
        model=net.model,
        validation_model=net.validation_model,
        objective=net.objective,
        **training._asdict(),
    )


def open_training(config: ConfigDict, net: Network, mesh: Mesh) -> Training:
    """The data of a config, split over the processes of `mesh`, and the optimiser of `net`.

    Raises:
        UserError: The corpus cannot be read, is too short, or has tokens that the network lacks.
    """
    steps = net.plan.steps
    data = open_rows(config, mesh)
    if data.max_steps is not None and data.max_steps < steps:
        refuse("data.epochs", config.data.epochs, f"more: the run has {steps} steps, its data ends at {data.max_steps}")
    if (saved := checkpoint_steps(config)) and saved[-1] > steps:
        refuse("train.checkpoint_at", config.train.checkpoint_at, f"steps up to {steps}, the last one of the run")
    if data.vocab_size > net.vocab_size:
        refuse("model.vocab_size", config.model.vocab_size, f"0, or at least the {data.vocab_size} tokens of the data")
    optim, optimizer = config.optim, optimizer_of(config, net.plan.architecture)
    options = StepOptions(
        batch_size=config.train.batch_size,
        microbatches=config.train.microbatches,
        loss_chunk=config.train.loss_chunk,
        scored_only=config.train.scored_only,
        ema_decay=optim.ema,
        dropout=config.model.dropout > 0,
        spike_deviations=optim.spike_deviations,
        frozen=frozen_of(config),
        skip_bad=optim.on_nonfinite == "skip",
        loss_per=config.train.loss_per,
        learned=learned_density(config),
        anneal_steps=config.objective.anneal_steps,
    )
    if options.frozen:
        check_patterns(jax.eval_shape(net.model.init, jax.random.key(0)), options.frozen)
    return Training(data, mesh, optimizer, options, *state_of(config, net, optimizer))


def schedule_keys(config: ConfigDict) -> dict[str, Any]:
    """The arguments of `learning_rate_shape` that a config describes."""
    optim = config.optim
    names = ("decay", "final", "wsd_form", "wsd_steps", "warmup_from_zero")
    return {name: optim[name] for name in names}


def learning_rate(config: ConfigDict, numbers: dict[str, Any], step: int) -> float:
    """The learning rate of a step, counted from 1, where none was skipped before it.

    Args:
        config: The run's config.
        numbers: The optimiser's hyperparameters, as in `Training.initial`.
        step: The step.
    """
    lengths = numbers["warmup_steps"], numbers["total_steps"]
    shape = learning_rate_shape(step=step - 1, warmup_steps=lengths[0], total_steps=lengths[1], **schedule_keys(config))
    return config.optim.lr * float(shape)


def optimizer_of(config: ConfigDict, architecture: Architecture) -> optax.GradientTransformation:
    """The optimiser that a config describes, for its network."""
    optim = config.optim
    return make_optimizer(
        optim.name,
        beta_1=optim.beta_1,
        beta_2=optim.beta_2,
        epsilon=optim.epsilon,
        clip=optim.clip,
        decay_everything=optim.decay_everything,
        frozen=frozen_of(config),
        architecture=architecture,
        **schedule_keys(config),
    )


def frozen_of(config: ConfigDict) -> tuple[str, ...]:
    """Patterns of the names of parameters that are not trained: with adapters, by default all but these."""
    patterns = tuple(filter(None, (pattern.strip() for pattern in config.optim.freeze.split(","))))
    return patterns or ("ends/*", "blocks/*") * (config.model.lora_rank > 0)


def state_of(
    config: ConfigDict, net: Network, optimizer: optax.GradientTransformation
) -> tuple[Callable[..., State], tuple]:
    """(a function that makes the state before the first step, its arguments)."""
    optim = config.optim
    history = optim.spike_deviations > 0
    levels = learned_density(config) is not None
    make_state = partial(initial_state, net.model, net.objective, optimizer, optim.ema, history=history, levels=levels)
    numbers = hyperparameters(optim.lr, optim.weight_decay, net.plan.warmup_steps, net.plan.steps)
    return make_state, (jnp.uint32(config.seed), numbers)


def open_rows(config: ConfigDict, mesh: Mesh | None = None) -> Data:
    """The rows of a config's corpus as its objective reads them. With a mesh, only this process's share of a batch.

    Raises:
        UserError: The corpus cannot be read.
    """
    process, processes = share_of_rows(mesh) if mesh is not None else (0, 1)
    data = open_data(
        **{key: value for key, value in config.data.items() if key != "prompt_tokens"},  # `rows_of` reads that one
        batch_size=config.train.batch_size,
        validation_rows=config.eval.sequences,
        process_index=process,
        process_count=processes,
    )
    return with_rows(data, rows_of(config)) if config.data.extra_token or config.data.prompt_tokens else data
