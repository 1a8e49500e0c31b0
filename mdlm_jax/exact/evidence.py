"""The best network of any objective with a `parameterization`, on an enumerated toy distribution.

What a view shows of the clean tokens is evidence: position k, if the predicted position attends to it, multiplies the
distribution of the clean token there by q(z_k | x). Masks, noise and the clean context of earlier blocks are all
evidence.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdlm_jax.exact.oracles import Oracle
from mdlm_jax.exact.toy import ToyDistribution
from mdlm_jax.objectives.base import Objective, Parameterization, View, full
from mdlm_jax.objectives.closed_form import log
from mdlm_jax.objectives.gaussian import LOG_SNR, embedding
from mdlm_jax.objectives.gaussian import evidence as gaussian_evidence
from mdlm_jax.processes.base import likelihood


def leave_one_out(joint: Float[Array, "*V"], evidence: Float[Array, "L V"]) -> Float[Array, "L V"]:
    """p(x_i = v | evidence on all positions but i) for every position i: the joint distribution times the evidence,
    summed over the rest.
    """
    length = joint.ndim

    def of_position(position):
        probs = joint
        for other in range(length):
            if other != position:
                shape = [-1 if axis == other else 1 for axis in range(length)]
                probs = probs * evidence[other].reshape(shape)
        probs = probs.sum(axis=tuple(axis for axis in range(length) if axis != position))
        return probs / probs.sum()

    return jnp.stack([of_position(position) for position in range(length)])


def best_network(objective: Objective, toy: ToyDistribution, objective_params=()) -> Oracle:
    """view -> logits of the best network. Raises TypeError for an objective without a parameterization."""

    def of_toy(evidence):
        return leave_one_out(jnp.asarray(toy.probability, evidence.dtype), evidence)

    return network_of(objective, of_toy, toy.length, objective_params)


def network_of(objective: Objective, leave_one_out, length: int, objective_params=()) -> Oracle:
    """The best network, given a function from evidence f[L, V] to leave-one-out distributions f[L, V].

    `markov_leave_one_out` is one for Markov chains.
    """
    parameterization = parameterization_of(objective, objective_params)

    def oracle(view: View) -> Float[Array, "M V"]:
        num_read, num_scored = view.tokens.shape[0], view.targets.shape[0]
        t = jnp.broadcast_to(view.t, (num_read,))
        each = likelihood(parameterization.process, view.tokens, t)
        positions = view.positions[:, 0]

        def together(seen):
            """The product of what the positions in `seen` show, at each position."""
            shown = jnp.where(seen[:, None], each, 1)
            return jax.vmap(lambda i: jnp.where((positions == i)[:, None], shown, 1).prod(axis=0))(jnp.arange(length))

        def probs(position):
            return leave_one_out(together(objective.mask(position, jnp.arange(num_read))))[positions[position]]

        if objective.mask is full:
            distributions = leave_one_out(together(jnp.ones(num_read, bool)))[positions]
        else:
            distributions = jax.vmap(probs)(jnp.arange(num_scored))
        return parameterization.logits(distributions, view.tokens[:num_scored], t[:num_scored])

    return oracle


def parameterization_of(objective: Objective, objective_params: Any = ()) -> Parameterization:
    """The parameterization of an objective. Raises TypeError for an objective without one."""
    if objective.parameterization is None:
        raise TypeError("objective.parameterization is None; accepted: a Parameterization")
    return objective.parameterization(objective_params)


def gaussian_network(toy: ToyDistribution, objective_params) -> Oracle:
    """The best network of `gaussian`, which reads noised vectors: its evidence is the density of each vector."""
    joint = jnp.asarray(toy.probability)

    def oracle(view: View) -> Float[Array, "M V"]:
        assert view.noisy is not None
        shown = jax.nn.softmax(gaussian_evidence(embedding(objective_params), view.noisy, LOG_SNR(view.t)), axis=-1)
        return log(leave_one_out(joint.astype(shown.dtype), shown))

    return oracle
