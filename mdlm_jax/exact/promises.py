"""What an objective promises, checked on a toy distribution with known probabilities: `mdlm-jax check`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.exact.evidence import best_network, gaussian_network
from mdlm_jax.exact.oracles import (
    Oracle,
    any_order_causal_oracle,
    ar_oracle,
    expected_nats,
    masked_oracle,
    nats_of_each,
)
from mdlm_jax.exact.toy import ToyDistribution, entropy, nats, random_toy_distribution
from mdlm_jax.objectives.base import Objective, causal, full
from mdlm_jax.objectives.noised import importance_sampled_times

LENIENT = 4.0  # standard errors: of some dozens of comparisons none should miss
ROUNDING = 1e-5  # relative, of float32 sums
TRAINED = 0.02  # relative: what an epsilon of 1e-3 may take from a bound


class Promise(NamedTuple):
    """One promise: what was found, what was expected, and the standard error of what was found."""

    promise: str
    value: float
    expected: str
    error: float
    holds: bool


def check_promises(
    make: Callable[[int, int], Objective], vocab: int, length: int, draws: int, seed: int = 0
) -> list[Promise]:
    """Checks what an objective promises, on a random toy distribution.

    For an objective that is no bound, the objective that evaluates it is checked.

    Args:
        make: (mask id, row length) -> the objective.
        vocab: V, tokens of the toy distribution.
        length: L, its positions.
        draws: Draws of the noise for each sequence.
        seed: Seed of the toy distribution and of the noise.

    Returns:
        One row per promise.

    Raises:
        UserError: The best network is unknown: the objective has no `parameterization`, and is neither causal nor a
            view of masked tokens.
    """
    toy, objective = random_toy_distribution(seed, vocab, length), make(vocab, length)
    reported = objective.evaluate or objective
    if reported.bound == "none":
        raise UserError("objective.bound is 'none' and objective.evaluate names no bound; accepted: one of the two")
    key = jax.random.key(seed)
    objective_params = reported.init(key)
    best = network_for(reported, toy, objective_params)
    floor = entropy(toy)
    mean, error = expected_nats(reported, best, toy, key, draws)
    slack = LENIENT * error + ROUNDING * floor
    tight = [] if reported.num_steps else [_tight_everywhere(reported, best, toy, key, draws)]
    worse, worse_error = expected_nats(reported, perturbed(best), toy, key, draws)
    if reported.num_steps:
        first = Promise("best network: mean nats at least H(x)", mean, f">= {floor:.4f}", error, mean > floor - slack)
    else:
        first = Promise("best network: mean nats are H(x)", mean, f"{floor:.4f}", error, abs(mean - floor) < slack)
    least = floor - LENIENT * worse_error
    trained = [] if reported is objective or objective.bound == "none" else [_as_trained(objective, toy, key, draws)]
    rows = [
        first,
        *trained,
        *tight,
        Promise("another network: never less", worse, f">= {floor:.4f}", worse_error, worse > least),
    ]
    return rows + [_given_is_given(objective, vocab, length, key), _finite(objective, vocab, length, key)]


def network_for(objective: Objective, toy: ToyDistribution, objective_params) -> Oracle:
    """The best network of an objective. Raises UserError where it is unknown."""
    if objective.parameterization is not None:
        return best_network(objective, toy, objective_params)
    if objective.mask is causal:
        return any_order_causal_oracle(toy) if objective.coordinates == 2 else ar_oracle(toy)
    if objective.inputs:
        return gaussian_network(toy, objective_params)
    if objective.mask is full:
        return masked_oracle(toy)
    raise UserError(
        "objective.parameterization is None; accepted: a Parameterization, from which the optimal logits follow"
    )


def perturbed(network: Oracle) -> Oracle:
    """The network with errors in its logits that depend on what it reads."""

    def other(view) -> Float[Array, "M V"]:
        logits = network(view)
        positions, states = jnp.arange(logits.shape[0])[:, None], jnp.arange(logits.shape[1])
        shift = jnp.sin(3.0 * positions + 5.0 * states + view.tokens[: len(positions), None])
        return jnp.where(logits < -1e3, logits, logits + 0.5 * shift)

    return other


def _as_trained(objective: Objective, toy: ToyDistribution, key: Array, draws: int) -> Promise:
    """The trained loss is a bound as well, not only the reported one; a published epsilon may lower it a little.

    Its mean is taken over importance-sampled times, since independent times of weight 1 / t have infinite variance.
    """
    objective_params, floor = objective.init(key), entropy(toy)
    best = network_for(objective, toy, objective_params)
    mean, error = expected_nats(importance_sampled_times(objective), best, toy, key, draws)
    slack = LENIENT * error + TRAINED * floor
    return Promise("as trained: mean nats are H(x), about", mean, f"{floor:.4f}", error, abs(mean - floor) < slack)


def _tight_everywhere(objective: Objective, best: Oracle, toy: ToyDistribution, key: Array, draws: int) -> Promise:
    """The largest distance of a sequence's mean nats from its -log p, in standard errors."""
    each = nats_of_each(objective, best, toy, key, draws)
    known = nats(toy)[toy.probability.ravel() > 0]
    error = each.std(axis=0, ddof=1) / np.sqrt(len(each)) + ROUNDING * known
    worst = float((np.abs(each.mean(axis=0) - known) / error).max())
    limit = LENIENT + np.log10(len(known))  # the largest of so many
    return Promise(
        f"-log p(x) of each of {len(known)} sequences: worst, in errors", worst, f"< {limit:.1f}", 1.0, worst < limit
    )


def _given_is_given(objective: Objective, vocab: int, length: int, key: Array) -> Promise:
    """How many prompt or padding tokens are noised or have a loss, over 200 draws."""
    tokens = jnp.arange(length, dtype=jnp.int32) % vocab
    segments = jnp.where(jnp.arange(length) == length - 1, 0, 1)
    example = Example(tokens, segments, jnp.arange(length) == 0)
    objective_params = objective.init(key)

    def touched(key, u):
        view = objective.view(objective_params, key, example, u)
        where = view.positions[..., : view.targets.shape[-1], -1]
        outside = (where == 0) | (where == length - 1)
        changed = view.tokens[..., : view.targets.shape[-1]] != view.targets
        noised = outside & changed & (objective.mask is not causal) & (not objective.inputs)
        return (outside & (view.weight != 0)).sum() + noised.sum()

    count = int(jax.vmap(touched)(jax.random.split(key, 200), jnp.linspace(0, 1, 200, endpoint=False)).sum())
    return Promise("prompt and padding tokens noised or in the loss", count, "0", 0.0, count == 0)


def _finite(objective: Objective, vocab: int, length: int, key: Array) -> Promise:
    """How many losses are not finite at the first and the last noise level, under uniform logits."""
    tokens = jnp.arange(length, dtype=jnp.int32) % vocab
    example = Example(tokens, jnp.ones_like(tokens), jnp.zeros(length, bool))
    objective_params = objective.init(key)

    def bad(key, u):
        view = objective.view(objective_params, key, example, u)
        loss = objective.token_loss(objective_params, jnp.zeros((*view.targets.shape, vocab)), view)
        return (~jnp.isfinite(loss)).sum() + (~jnp.isfinite(view.constant)).sum()

    ends = jnp.array([0.0, np.nextafter(np.float32(1), np.float32(0))])
    count = int(jax.vmap(bad)(jax.random.split(key, 200), jnp.repeat(ends, 100)).sum())
    return Promise("losses not finite at either end of time", count, "0", 0.0, count == 0)
