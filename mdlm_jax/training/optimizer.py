"""The optimiser with its hyperparameters in its state, so that runs of equal shape share one compiled step."""

import jax
import jax.numpy as jnp
import optax

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.training.directions import directions
from mdlm_jax.training.frozen import only_trained

DECAYS = ("cosine", "wsd", "constant")


# the learning rate over its peak after a share r of the decay (Megatron-LM's forms)
WSD_FORMS = {
    "linear": lambda r: 1 - r,
    "cosine": lambda r: 0.5 * (1 + jnp.cos(jnp.pi * r)),
    "exponential": lambda r: 2 * 0.5**r - 1,
    "minus_sqrt": lambda r: 1 - jnp.sqrt(r),
}


def learning_rate_shape(
    decay: str,
    final: float,
    step,
    warmup_steps,
    total_steps,
    *,
    wsd_form: str = "linear",
    wsd_steps: int = 0,
    warmup_from_zero: bool = False,
):
    """The learning rate over its peak at `step`, counted from 0: linear warm-up, then the decay.

    Args:
        decay: Cosine falls to `final` at the last step; wsd stays at 1, then falls to `final` in the last steps;
            constant stays at 1.
        final: The last learning rate over the peak.
        step: Steps taken before this one.
        warmup_steps: W, the steps of warm-up, which is (step + 1) / W.
        total_steps: Steps of the run.
        wsd_form: The form of the decay of wsd, a key of WSD_FORMS.
        wsd_steps: Steps at the end in which wsd decays; 0: a tenth of all steps.
        warmup_from_zero: Warm-up is step / W (SMDM, Megatron-LM): the first step has a learning rate of 0.

    Raises:
        UserError: There is no such decay.
    """
    step, warmup = jnp.asarray(step, jnp.float32), jnp.maximum(warmup_steps, 1)
    if decay == "cosine":
        progress = (step - warmup_steps) / jnp.maximum(total_steps - warmup_steps, 1)
        after = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
    elif decay == "wsd":
        left = (total_steps - step) / jnp.maximum(wsd_steps or 0.1 * total_steps, 1)
        after = final + (1 - final) * WSD_FORMS[wsd_form](1 - jnp.clip(left, 0, 1))
        after = jnp.where(left >= 1, 1.0, after)  # exactly, as `constant`: final + (1 - final) may round
    elif decay == "constant":
        after = jnp.ones_like(step)
    else:
        raise UserError(f"optim.decay is {decay!r}; accepted: {', '.join(DECAYS)}")
    return jnp.where(step < warmup_steps, (step + (not warmup_from_zero)) / warmup, after)


def hyperparameters(learning_rate: float, weight_decay: float, warmup_steps: int, total_steps: int) -> dict:
    """The hyperparameters in which runs that share a compiled step may differ, as leaves of the optimiser's state.

    Args:
        learning_rate: The peak.
        weight_decay: The factor of decoupled weight decay.
        warmup_steps: Steps of warm-up.
        total_steps: Steps that the schedule is planned for.
    """
    return {
        "learning_rate": jnp.float32(learning_rate),
        "weight_decay": jnp.float32(weight_decay),
        "warmup_steps": jnp.float32(warmup_steps),
        "total_steps": jnp.float32(total_steps),
    }


def make_optimizer(
    name: str = "adamw",
    *,
    decay: str,
    final: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    clip: float,
    decay_everything: bool,
    wsd_form: str = "linear",
    wsd_steps: int = 0,
    warmup_from_zero: bool = False,
    frozen: tuple[str, ...] = (),
    architecture: Architecture | None = None,
) -> optax.GradientTransformation:
    """An optimiser with gradient clipping and decoupled weight decay.

    The hyperparameters in its state are 0 at first; `initial_state` writes those of each run. Blocks are stacked over
    layers, so a matrix is recognised by the name of its leaf, not by its rank.

    Args:
        name: One of `directions.OPTIMIZERS`.
        decay: As in `learning_rate_shape`.
        final: As in `learning_rate_shape`.
        beta_1: Decay rate of the first moment; with schedule_free the share of the average in the trained parameters.
        beta_2: Decay rate of the second moment.
        epsilon: Added to the root of the second moment.
        clip: The largest global norm of a gradient.
        decay_everything: Decay all parameters, as SMDM does; otherwise only matrices.
        wsd_form: As in `learning_rate_shape`.
        wsd_steps: As in `learning_rate_shape`.
        warmup_from_zero: As in `learning_rate_shape`.
        frozen: Patterns of the names of parameters that are not trained.
        architecture: The network, whose parametrization multiplies the learning rates; None for a standard one.
    """

    def is_matrix(params):
        names = ("kernel", "head")
        return jax.tree.map_with_path(lambda path, _: decay_everything or path[-1].key in names, params)

    def chain(learning_rate, weight_decay, warmup_steps, total_steps):
        def rate(step):
            shape = learning_rate_shape(
                decay,
                final,
                step,
                warmup_steps,
                total_steps,
                wsd_form=wsd_form,
                wsd_steps=wsd_steps,
                warmup_from_zero=warmup_from_zero,
            )
            return -learning_rate * shape

        whole = optax.chain(
            optax.clip_by_global_norm(clip),
            *directions(name, beta_1, beta_2, epsilon, architecture),
            optax.add_decayed_weights(weight_decay, mask=is_matrix),
            optax.scale_by_schedule(rate),
        )
        if name == "schedule_free":
            # optax counts its steps from 1
            whole = optax.contrib.schedule_free(whole, lambda count: -rate(count - 1), b1=beta_1)
        return only_trained(whole, frozen)

    return optax.inject_hyperparams(chain)(0.0, 0.0, 0.0, 0.0)
