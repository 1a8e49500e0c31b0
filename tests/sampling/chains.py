"""A reverse process as a Markov chain on all states of a small toy distribution, in exact arithmetic: matrices, no
draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.exact.evidence import leave_one_out
from mdlm_jax.objectives.base import Parameterization
from mdlm_jax.processes.base import Process, likelihood, posterior
from mdlm_jax.sampling.reverse import CORRECTOR_SIZE, DISTRIBUTIONS
from mdlm_jax.sampling.steps import reverse_rates, without_mask


def states_of(process: Process, length: int):
    """All S^L states of a row, [n, L]."""
    return jnp.asarray(np.indices((process.states,) * length).reshape(length, -1).T.astype(np.int32))


def best_distributions(process: Process, joint, states, t):
    """p(x_i | all OTHER positions of the state) at t: [n, L, V], the answer of the best network."""
    evidence = likelihood(process, states, jnp.full(states.shape, t))
    return jax.vmap(lambda shown: leave_one_out(joint, shown))(evidence)


def best_log_ratios(parameterization: Parameterization, joint, states, t):
    """What that network says, through its logits, of p_t(y here) / p_t(x here)."""
    at_t = jnp.full(states.shape, t)
    return parameterization.log_ratio(
        parameterization.logits(best_distributions(parameterization.process, joint, states, t), states, at_t),
        states,
        at_t,
    )


def noised_distribution(process: Process, joint, states, t):
    """p_t of every state."""
    clean = jnp.indices(joint.shape).reshape(joint.ndim, -1).T
    here = process.forward(jax.nn.one_hot(clean, process.vocab, dtype=joint.dtype), jnp.full(clean.shape, t))
    each = [here[:, position][:, states[:, position]] for position in range(joint.ndim)]
    return joint.ravel() @ jnp.prod(jnp.stack(each), axis=0)


def matrix(probs, states):
    """P(row of states -> row of states) of positions that move independently, each by its distribution [n, L, S]."""
    return jnp.prod(jnp.stack([probs[:, position, states[:, position]] for position in range(states.shape[1])]), axis=0)


def step_matrix(sampler: str, parameterization: Parameterization, joint, states, s, t):
    """Of one step of `reverse`."""
    process, at_s, at_t = parameterization.process, jnp.full(states.shape, s), jnp.full(states.shape, t)
    clean = best_distributions(process, joint, states, t)
    distribution = DISTRIBUTIONS["euler" if sampler == "predictor_corrector" else sampler]
    known = clean if distribution is posterior else best_log_ratios(parameterization, joint, states, t)
    probs = distribution(process, states, known, at_s, at_t)
    return matrix(jnp.where(s > 0, probs, without_mask(process, states, probs, clean)), states)


def corrector_distribution(parameterization: Parameterization, joint, states, t, size):
    """[n, L, S]: size x (forward + reverse rates), at most 1 in all."""
    process, at_t = parameterization.process, jnp.full(states.shape, t)
    backward = reverse_rates(process, states, best_log_ratios(parameterization, joint, states, t), at_t)
    jumps = size * (backward + forward_rates(process, t)[states])
    total = jumps.sum(axis=-1, keepdims=True)
    stays = jnp.arange(process.states) == states[..., None]
    return jnp.where(stays, 1 - jnp.minimum(total, 1), jumps / jnp.maximum(total, 1))


def forward_rates(process: Process, t):
    """R_t(x, y) as a matrix [S, S], 0 on the diagonal."""
    return process.rate(jnp.arange(process.states), jnp.full(process.states, t)).T


def generator(rates, states):
    """[n, n] of rates [n, L, S]: one place changes at a time; rows sum to 0."""
    differs = states[:, None] != states[None]
    each = [
        jnp.where(differs.sum(axis=-1) == 1, differs[..., position] * rates[:, position][:, states[:, position]], 0)
        for position in range(states.shape[1])
    ]
    total = sum(each)
    return total - jnp.diag(total.sum(axis=1))


@partial(jax.jit, static_argnames=("sampler", "parameterization", "correctors"))
def distribution_of_samples(sampler: str, parameterization, joint, num_steps, correctors: int = 0):
    """The distribution that `reverse` gives to every state with the best network; `num_steps` is traced: one
    compilation."""
    parameterization = parameterization(())
    process = parameterization.process
    states = states_of(process, joint.ndim)

    def step(index, probs):
        t, s = jnp.clip(1 - index / num_steps, 1e-6, 1 - 1e-6), (num_steps - index - 1) / num_steps
        probs = probs @ step_matrix(sampler, parameterization, joint, states, s, t)

        def correct(_, probs):
            return probs @ matrix(
                corrector_distribution(parameterization, joint, states, s, CORRECTOR_SIZE / num_steps), states
            )

        return jax.lax.fori_loop(0, jnp.where(s > 0, correctors, 0), correct, probs)

    return jax.lax.fori_loop(0, num_steps, step, process.prior.astype(joint.dtype)[states].prod(axis=1))


def total_variation(probs, process: Process, joint) -> float:
    """Half the L1 distance of a distribution of states to the joint distribution of rows of tokens."""
    vocab, mask_free = process.vocab, np.asarray(probs).reshape((process.states,) * joint.ndim)
    tokens = mask_free[(slice(0, vocab),) * joint.ndim]
    return float(np.abs(tokens - joint).sum() + 1 - tokens.sum()) / 2
