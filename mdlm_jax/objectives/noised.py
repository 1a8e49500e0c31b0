"""Views of processes that act on each token by itself."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.objectives.autoregressive import one_view
from mdlm_jax.objectives.base import Objective, View, loss_mask
from mdlm_jax.processes.base import Process

EARLIEST = 1e-6  # of continuous time: at 0 nothing is noised, and rates are 0 / 0


def noised(process: Process, example: Example, key, t) -> View:
    """The example at time t: every scored token through the process by itself, weight 1 where scored.

    The constant is what the ends cost: 0 where the process begins clean and ends in its prior.
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


def spread_times(objective: Objective) -> Objective:
    """The same mean by importance sampling of u, with finite variance: what is reported.

    Near t = 0 a noised token is rare and costs 1 / t; under uniform times the second moment diverges (for GIDD as
    t^(-1/2)), and near t = 1 likewise where the forward rates grow. With u = v^3 (10 - 15 v + 6 v^2) the times are rare
    there, and what is seen at them weighs 30 v^2 (1 - v)^2.
    """

    def view(objective_params, key, example: Example, v) -> View:
        seen = objective.view(objective_params, key, example, v**3 * (10 - 15 * v + 6 * v**2))
        slope = 30 * v**2 * (1 - v) ** 2
        return seen._replace(weight=seen.weight * slope, constant=seen.constant * slope)

    return objective._replace(view=view, estimator=f"{objective.estimator}, spread", evaluate=None)


def noisy_tokens(view: View):
    """What stands at the scored positions: the first half of a view of two halves, all of the others."""
    return view.tokens[..., : view.targets.shape[-1]]


def times(view: View):
    """The noise level of the scored positions, [.., 1] or one each."""
    return view.t[..., : view.targets.shape[-1]]


def one_hot(tokens, vocab: int):
    """f32[.., V]."""
    return jax.nn.one_hot(tokens, vocab)
