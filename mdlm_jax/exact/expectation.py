"""The exact mean nats of one sequence, for objectives that noise each token independently."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.exact.evidence import parameterization_of
from mdlm_jax.exact.oracles import Oracle
from mdlm_jax.objectives.base import Objective, View


def bound_of(
    objective: Objective,
    oracle: Oracle,
    x: Int[np.ndarray, "L"],
    times: Float[np.ndarray, "n"],
    weights: Float[np.ndarray, "n"],
    objective_params=(),
) -> float:
    """The bound of one sequence x: the weighted sum of `nats_at` over times, and the loss at the prior, in float64.

    `tanh_sinh` gives times and weights; those of D3PM are t = 1/T .. 1, each of weight 1 / T.

    Raises:
        UserError: The views are not the noise of a process alone, as in masked (see `masked_bound`) or tauldr.
    """
    with jax.enable_x64(True):
        tokens = jnp.asarray(x)
        if (_view(objective, tokens, objective_params).weight != 1).any():
            raise UserError(
                "objective: its views weigh positions; accepted: one that weighs them alike, as sedd or d3pm"
            )
        integrand = jax.jit(lambda tokens, t: nats_at(objective, oracle, tokens, t, objective_params))
        nats = np.array([integrand(tokens, t) for t in np.asarray(times, np.float64)])
        prior = float(
            parameterization_of(objective, objective_params).process.prior_and_reconstruction_loss(tokens).sum()
        )
    return float(weights @ nats) + prior


def nats_at(
    objective: Objective, oracle: Oracle, x: Int[Array, "L"], t: Float[Array, ""], objective_params=()
) -> Float[Array, ""]:
    """The mean loss over all S^L noised z, weighted by q_t(z | x). It is differentiable by objective_params.

    Blocks share t here, though training draws a time for each: the mean of a sum needs no independence.
    """
    process = parameterization_of(objective, objective_params).process
    length = x.shape[0]
    every = np.indices((process.states,) * length).reshape(length, -1).T.astype(np.int32)
    probs = process.forward(jax.nn.one_hot(x, process.vocab), jnp.broadcast_to(t, x.shape))
    probability = probs[jnp.arange(length), every].prod(axis=1)
    view = _view(objective, x, objective_params)
    two_halves = view.tokens.shape[0] > length

    def nats(z):
        shown = view._replace(tokens=jnp.concatenate([z, x]) if two_halves else z, t=jnp.where(view.t > 0, t, 0))
        return objective.token_loss(objective_params, oracle(shown), shown).sum()

    # what cannot happen may cost 0 / 0
    return jnp.where(probability > 0, probability * jax.vmap(nats)(jnp.asarray(every)), 0).sum()


def _view(objective: Objective, x: Int[Array, "L"], objective_params) -> View:
    """The first view of x at some time; only its noise depends on the time."""
    example = Example(x, jnp.ones_like(x), jnp.zeros(x.shape, bool))
    return jax.tree.map(
        lambda field: field[0], objective.view(objective_params, jax.random.key(0), example, jnp.float64(0.5))
    )
