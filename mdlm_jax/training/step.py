"""The one pure train step of every objective, and the ways to run it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from mdlm_jax.data import Batch
from mdlm_jax.models.transformer import Model
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives.base import Objective, loss_mask
from mdlm_jax.training.loss import look, nats
from mdlm_jax.training.spikes import is_spike, no_history, remember

DROPOUT = 2**31  # folded into an example's key; objectives split that key, which folds small numbers into it


class State(NamedTuple):
    """All that training carries from step to step: a plain pytree."""

    step: Array
    params: Any
    objective_params: Any  # the objective's own parameters
    opt_state: Any
    ema: Any  # averaged params; () without
    key: Array  # key data; never changes: the noise of a step is folded from it
    history: Any = ()  # losses of the last steps; () where none is a spike


class StepOptions(NamedTuple):
    batch_size: int  # global
    microbatches: int = 1
    loss_chunk: int = 128  # positions whose logits exist at once
    scored_only: bool = False  # logits of scored positions only
    ema_decay: float = 0.0
    dropout: bool = False
    spike_deviations: float = 0.0  # standard deviations above the last losses; 0: no loss is a spike
    skip_bad: bool = False  # a step with a spike, or whose loss or gradient is not finite, changes nothing


def initial_state(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    seed: Array,
    hyperparameters: dict[str, Array],
    history: bool = False,
) -> State:
    """The state before the first step. Seed and numbers are arguments, so that runs share the compiled program.

    With `history` the state has the last losses, for finding spikes.
    """
    key = jax.random.key(seed)
    key_params, key_phi, key_noise = jax.random.split(key, 3)
    params, objective_params = model.init(key_params), objective.init(key_phi)
    opt_state = optimizer.init((params, objective_params))._replace(hyperparams=hyperparameters)
    ema = jax.tree.map(jnp.copy, params) if ema_decay else ()
    losses = no_history() if history else ()
    return State(jnp.int32(0), params, objective_params, opt_state, ema, jax.random.key_data(key_noise), losses)


def make_train_step(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    options: StepOptions,
    axis_name: str | None = None,
) -> Callable[[State, Batch], tuple[State, dict[str, Array]]]:
    """(state, batch) -> (state, metrics). Nats are summed over the global batch, then divided by its scored tokens.

    With `axis_name` the batch is this device's part and sums go over that axis (`pmap`, `shard_map`); without, the
    batch is the whole one, wherever its rows lie.
    """

    def summed_nats(trainable, key, step, batch: Batch):
        params, objective_params = trainable
        keys, u = noise_of(key, step, batch.index, options.batch_size)
        view = look(objective, objective_params, keys, batch.example, u)
        dropout_keys = jnp.repeat(jax.vmap(jax.random.fold_in, (0, None))(keys, DROPOUT), objective.views, axis=0)
        total, each = nats(
            model,
            objective,
            params,
            objective_params,
            view,
            options.loss_chunk,
            dropout_keys if options.dropout else None,
            options.scored_only,
        )
        total /= objective.views
        if objective.surrogate is not None:
            apart = jax.tree.map(lambda field: field.reshape(-1, objective.views, *field.shape[1:]), (each, view))
            total += jax.vmap(objective.surrogate, (None, 0, 0))(objective_params, *apart).sum()
        return total

    def accumulated(trainable, key, step, batch: Batch):
        """Sums over microbatches. Each takes every n-th row, so that it stays spread over the devices."""
        slope = jax.value_and_grad(summed_nats)
        if options.microbatches == 1:
            return slope(trainable, key, step, batch)
        parts = jax.tree.map(
            lambda rows: jnp.moveaxis(rows.reshape(-1, options.microbatches, *rows.shape[1:]), 1, 0), batch
        )

        def add(carry, part):
            return jax.tree.map(jnp.add, carry, slope(trainable, key, step, part)), None

        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trainable))
        return jax.lax.scan(add, zeros, parts)[0]

    def train_step(state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        trainable = (state.params, state.objective_params)
        sums = accumulated(trainable, state.key, state.step, batch), loss_mask(batch.example).sum()
        if axis_name is not None:
            sums = jax.lax.psum(sums, axis_name)
        (total, gradients), num_tokens = sums
        num_tokens = jnp.maximum(num_tokens, 1)
        loss, gradients = total / num_tokens, jax.tree.map(lambda gradient: gradient / num_tokens, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, trainable)
        params, objective_params = optax.apply_updates(trainable, updates)
        ema = ()
        if options.ema_decay:
            # warms up, so that the average does not remember the initial weights; n counts updates from 1, as in RADD
            n = state.step + 1
            decay = jnp.minimum(options.ema_decay, (1 + n) / (10 + n))
            ema = optax.incremental_update(params, state.ema, 1 - decay)
        gradient_norm = optax.tree.norm(gradients)
        bad, history = ~(jnp.isfinite(loss) & jnp.isfinite(gradient_norm)), ()
        if options.spike_deviations:
            bad |= is_spike(state.history, loss, options.spike_deviations)
            history = remember(state.history, state.step, loss)
        new = State(state.step + 1, params, objective_params, opt_state, ema, state.key, history)
        if options.skip_bad:
            kept = state._replace(step=new.step, history=history)
            new = jax.tree.map(lambda after, before: jnp.where(bad, before, after), new, kept)
        return new, {"loss": loss, "gradient_norm": gradient_norm, "tokens": num_tokens, "bad": bad}

    return train_step
