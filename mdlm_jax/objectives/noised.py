"""Views of noise that acts on each token independently."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.objectives.autoregressive import one_view
from mdlm_jax.objectives.base import Objective, View, loss_mask
from mdlm_jax.processes.base import Process

EARLIEST = 1e-6  # of continuous time: at 0 nothing is noised, and rates are 0 / 0


def noised(process: Process, example: Example, key, t) -> View:
    """The example at time t: each token of the loss mask noised independently, with weight 1.

    The constant is the prior and reconstruction loss: 0 where the process begins clean and ends in its prior.
    """
    positions = jnp.arange(example.tokens.shape[-1])[:, None]
    eligible, t = loss_mask(example), jnp.asarray(t)
    return one_view(
        tokens=jnp.where(eligible, process.sample(key, example.tokens, t), example.tokens),
        targets=example.tokens,
        weight=eligible.astype(t.dtype),
        t=jnp.reshape(t, 1),
        positions=positions,
        key_positions=positions,
        segments=example.segments,
        constant=jnp.where(eligible, process.prior_and_reconstruction_loss(example.tokens), 0).sum(),
    )


def continuous_time(u):
    """A time in (0, 1) from u in [0, 1)."""
    return jnp.clip(u, EARLIEST, 1 - EARLIEST)


def importance_sampled_times(objective: Objective) -> Objective:
    """The same mean by importance-sampled times, with finite variance: what is reported.

    Near t = 0 a noised token is rare and costs 1 / t: under uniform times the second moment diverges (for GIDD as
    t^(-1/2)), and also near t = 1 where the forward rates grow. u = v^3 (10 - 15 v + 6 v^2) draws few times there and
    weights them by 30 v^2 (1 - v)^2.
    """

    def view(objective_params, key, example: Example, v) -> View:
        seen = objective.view(objective_params, key, example, v**3 * (10 - 15 * v + 6 * v**2))
        slope = 30 * v**2 * (1 - v) ** 2
        return seen._replace(weight=seen.weight * slope, constant=seen.constant * slope)

    return objective._replace(view=view, estimator=f"{objective.estimator}, importance-sampled", evaluate=None)


def noisy_tokens(view: View):
    """The noised tokens at the predicted positions: the first half of a view of two halves, else all of the view."""
    return view.tokens[..., : view.targets.shape[-1]]


def times(view: View):
    """The noise level of the predicted positions, [.., 1] or [.., M]."""
    return view.t[..., : view.targets.shape[-1]]


def one_hot(tokens, vocab: int):
    """f32[.., V]."""
    return jax.nn.one_hot(tokens, vocab)
