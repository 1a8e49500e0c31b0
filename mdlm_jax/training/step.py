"""The one pure train step of every objective, and the ways to run it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mdlm_jax.data import Batch, Example
from mdlm_jax.errors import UserError
from mdlm_jax.models.transformer import Model
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives.annealed import annealed, share_at
from mdlm_jax.objectives.base import Objective, View, loss_mask
from mdlm_jax.objectives.densities import Learned, with_bins
from mdlm_jax.training.frozen import without_gradient
from mdlm_jax.training.gradient_noise import gradient_noise
from mdlm_jax.training.levels import bins_of, no_levels, remembered, sums_by_level
from mdlm_jax.training.loss import look, nats
from mdlm_jax.training.spikes import is_spike, no_history, remember

DROPOUT = 2**31  # folded into an example's key; objectives split that key, which folds small numbers into it


# what the trained loss is a mean over: the batch's tokens with a loss; rows, each divided by its own tokens with a loss
# (LLaDA's fine-tuning, dllm's "sequence"); or rows, each as the sum of its nats (dllm's "batch")
LOSS_PER = ("token", "answer", "sequence")


class State(NamedTuple):
    """The training state, a plain pytree."""

    step: Array
    params: Any
    objective_params: Any  # the objective's own parameters
    opt_state: Any
    ema: Any  # averaged params; () without averaging
    key: Array  # key data; never changes: the noise of a step is folded from it
    history: Any = ()  # the last losses; () without spike detection
    levels: Any = ()  # the `Levels` that a density is learned from; () without


class StepOptions(NamedTuple):
    """The options of the train step."""

    batch_size: int  # rows of the global batch
    microbatches: int = 1
    loss_chunk: int = 128  # positions whose logits exist at once
    scored_only: bool = False  # logits of scored positions only
    ema_decay: float = 0.0  # 0: no averaged parameters
    dropout: bool = False
    spike_deviations: float = 0.0  # standard deviations above the mean of the last losses; 0: no spike detection
    frozen: tuple[str, ...] = ()  # patterns of the names of parameters that are not trained
    skip_bad: bool = False  # a step with a spike, or whose loss or gradient is not finite, changes nothing
    loss_per: str = "token"  # one of LOSS_PER
    learned: Learned | None = None  # the density of noise levels that is learned; None: it is the objective's
    anneal_steps: int = 0  # attention opens from causal to full over so many steps; 0: it is as the objective says


def initial_state(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    seed: Array,
    hyperparameters: dict[str, Array],
    history: bool = False,
    levels: bool = False,
) -> State:
    """The state before the first step. Seed and hyperparameters are traced, so runs share the compiled program.

    Args:
        model: The network.
        objective: The objective.
        optimizer: The optimiser, as `make_optimizer` makes it.
        ema_decay: Above 0, the state holds averaged parameters.
        seed: The seed, uint32[].
        hyperparameters: As `optimizer.hyperparameters` gives them.
        history: Hold the last losses, for spike detection.
        levels: Hold the losses of noise levels, for a density that is learned.
    """
    key = jax.random.key(seed)
    key_params, key_phi, key_noise = jax.random.split(key, 3)
    params, objective_params = model.init(key_params), objective.init(key_phi)
    opt_state = optimizer.init((params, objective_params))._replace(hyperparams=hyperparameters)
    ema = jax.tree.map(jnp.copy, params) if ema_decay else ()
    losses = no_history() if history else ()
    noise = jax.random.key_data(key_noise)
    return State(jnp.int32(0), params, objective_params, opt_state, ema, noise, losses, no_levels() if levels else ())


def make_train_step(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    options: StepOptions,
    axis_name: str | tuple[str, ...] | None = None,
) -> Callable[[State, Batch], tuple[State, dict[str, Array]]]:
    """Makes the train step.

    The trained loss is a mean as `options.loss_per` says. The reported loss is always the sum of nats over the global
    batch, divided by its number of tokens with a loss, so that curves compare.

    Args:
        model: The network.
        objective: The objective.
        optimizer: The optimiser.
        options: The options of the step.
        axis_name: The axis of `pmap`, or the axes of `shard_map`, to sum over: the step then gets this device's part of
            the batch. None: the step gets the global batch.

    Returns:
        (state, batch) -> (state, metrics). The metrics are scalars: loss, trained_loss, gradient_norm, tokens and bad;
        where the batch has several parts, microbatches or those of devices, also gradient_squared_norm and
        gradient_variance, as `gradient_noise` estimates them; and TASK_nats_per_row of each task of the objective, NaN
        where no row of the batch has it.

    Raises:
        UserError: `loss_per` is none of LOSS_PER.
    """
    if options.loss_per not in LOSS_PER:
        raise UserError(f"loss_per={options.loss_per!r}; accepted: {', '.join(LOSS_PER)}")

    def summed_nats(trainable, key, step, levels, batch: Batch):
        params, objective_params = trainable
        params = without_gradient(params, options.frozen)
        keys, u = noise_of(key, step, batch.index, options.batch_size)
        drawn = objective
        if options.anneal_steps:
            drawn = annealed(objective, share_at(step, options.anneal_steps))
        if options.learned is not None:
            bins = bins_of(levels, options.learned)
            drawn = with_bins(drawn, bins)
        view = look(drawn, objective_params, keys, batch.example, u)
        share = jnp.repeat(_shares(batch.example), objective.views) if options.loss_per == "answer" else None
        dropout_keys = jnp.repeat(jax.vmap(jax.random.fold_in, (0, None))(keys, DROPOUT), objective.views, axis=0)
        trained = view if share is None else _scaled(view, share)
        total, each = nats(
            model,
            objective,
            params,
            objective_params,
            trained,
            options.loss_chunk,
            dropout_keys if options.dropout else None,
            options.scored_only,
        )
        # the nats of each view are computed only where they are needed
        plain = each if share is None else each / share
        total, reported = total / objective.views, (total if share is None else plain.sum()) / objective.views
        by_task, by_level = _nats_by_task(objective, plain, u), ()
        if options.learned is not None:
            _, slope, number = bins.at(u)
            of_rows = (each - trained.constant).reshape(-1, objective.views).mean(axis=1) / slope
            by_level = sums_by_level(of_rows, number)
        if objective.surrogate is not None:
            apart = jax.tree.map(lambda field: field.reshape(-1, objective.views, *field.shape[1:]), (plain, view))
            extra = jax.vmap(objective.surrogate, (None, 0, 0))(objective_params, *apart)
            total += extra.sum() if share is None else (extra * share[:: objective.views]).sum()
        return total, (reported, by_task, by_level)

    def accumulated(trainable, key, step, levels, batch: Batch):
        """(((trained, (reported, by task, by level)) nats, their gradient), squared norms of the parts' gradients).

        Each is summed over microbatches, which take every n-th row, so that each stays spread over the devices.
        """
        slope = jax.value_and_grad(summed_nats, has_aux=True)
        if options.microbatches == 1:
            sums = slope(trainable, key, step, levels, batch)
            return sums, optax.tree.norm(sums[1], squared=True)
        parts = jax.tree.map(
            lambda rows: jnp.moveaxis(rows.reshape(-1, options.microbatches, *rows.shape[1:]), 1, 0), batch
        )

        def add(carry, part):
            sums = slope(trainable, key, step, levels, part)
            return jax.tree.map(jnp.add, carry, (sums, optax.tree.norm(sums[1], squared=True))), None

        by_level = () if options.learned is None else no_levels()
        no_nats = jnp.zeros(()), (jnp.zeros(()), jnp.zeros((2, len(objective.tasks))), by_level)
        nothing = no_nats, jax.tree.map(jnp.zeros_like, trainable)
        zeros = (nothing, jnp.zeros(()))
        return jax.lax.scan(add, zeros, parts)[0]

    def train_step(state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        trainable = (state.params, state.objective_params)
        sums = accumulated(trainable, state.key, state.step, state.levels, batch), loss_mask(batch.example).sum()
        if axis_name is not None:
            sums = jax.lax.psum(sums, axis_name)
        (((total, (reported, by_task, by_level)), gradients), squares), num_tokens = sums
        num_parts = options.microbatches * (1 if axis_name is None else jax.lax.psum(1, axis_name))
        num_tokens = jnp.maximum(num_tokens, 1)
        count = num_tokens if options.loss_per == "token" else options.batch_size
        loss, gradients = reported / num_tokens, jax.tree.map(lambda gradient: gradient / count, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, trainable)
        params, objective_params = optax.apply_updates(trainable, updates)
        ema = ()
        if options.ema_decay:
            # the decay warms up, so that the average forgets the initial weights; n counts updates from 1, as in RADD
            n = state.step + 1
            decay = jnp.minimum(options.ema_decay, (1 + n) / (10 + n))
            ema = optax.incremental_update(params, state.ema, 1 - decay)
        gradient_norm = optax.tree.norm(gradients)
        bad, history = ~(jnp.isfinite(loss) & jnp.isfinite(gradient_norm)), ()
        if options.spike_deviations:
            bad |= is_spike(state.history, loss, options.spike_deviations)
            history = remember(state.history, state.step, loss)
        levels = () if options.learned is None else remembered(state.levels, by_level, options.learned)
        new = State(state.step + 1, params, objective_params, opt_state, ema, state.key, history, levels)
        if options.skip_bad:
            kept = state._replace(step=new.step, history=history)
            new = jax.tree.map(lambda after, before: jnp.where(bad, before, after), new, kept)
        trained = total / count
        metrics = {
            "loss": loss,
            "trained_loss": trained,
            "gradient_norm": gradient_norm,
            "tokens": num_tokens,
            "bad": bad,
        }
        metrics |= {
            f"{name}_nats_per_row": total / rows for name, total, rows in zip(objective.tasks, *by_task, strict=True)
        }
        if num_parts > 1:
            # each part has its share of `count`, so the gradient of its mean is that many times its sum's
            small = squares * num_parts / count**2
            noise = gradient_noise(small, gradient_norm**2, num_parts, options.batch_size)
            metrics |= {"gradient_squared_norm": noise.squared_norm, "gradient_variance": noise.variance}
        return new, metrics

    return train_step


def _shares(example: Example) -> Float[Array, "B"]:
    """1 over the tokens with a loss of each row; 1 where it has none."""
    return 1 / jnp.maximum(loss_mask(example).sum(axis=-1), 1)


def _nats_by_task(objective: Objective, nats_of_views: Float[Array, "n"], u: Float[Array, "B"]) -> Float[Array, "2 G"]:
    """The sums of the nats and of the rows of each of G tasks."""
    if objective.task_of is None:
        return jnp.zeros((2, 0))
    is_task = jax.vmap(objective.task_of)(u) == jnp.arange(len(objective.tasks))[:, None]
    rows = nats_of_views.reshape(-1, objective.views).mean(axis=1)
    return jnp.stack([jnp.where(is_task, rows, 0).sum(axis=1), is_task.sum(axis=1)])


def _scaled(view: View, share: Float[Array, "n"]) -> View:
    """The views with the nats of each multiplied by its share."""
    return view._replace(weight=view.weight * share[:, None], constant=view.constant * share)
