"""The networks that know a toy distribution exactly, and the mean nats of an objective that uses one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.exact.toy import ToyDistribution, conditionals
from mdlm_jax.objectives.base import Objective, View

BATCH = 2**17  # sequences at once

Oracle = Callable[[View], Float[Array, "M V"]]  # one view, without the axis K -> logits


def masked_oracle(toy: ToyDistribution) -> Oracle:
    """Logits of every position given the unmasked tokens of the view: for `masked`, `any_order`, `masked_lm`."""
    logits = _logits(toy)
    return lambda view: logits[tuple(view.tokens)]


def ar_oracle(toy: ToyDistribution) -> Oracle:
    """Logits of x_i given x_1 .. x_{i-1}, for the view of `ar`, whose position i reads the token before its target."""
    logits = _logits(toy)

    def oracle(view: View) -> Float[Array, "M V"]:
        target = view.positions[:, 0]
        return _read_causally(logits, view.tokens, target - 1, target)

    return oracle


def any_order_causal_oracle(toy: ToyDistribution) -> Oracle:
    """Logits of each position's target given what was read up to it, for the view of `any_order_causal`."""
    logits = _logits(toy)
    return lambda view: _read_causally(logits, view.tokens, view.positions[:, 0], view.positions[:, 1])


def expected_nats(
    objective: Objective, oracle: Oracle, toy: ToyDistribution, key: Array, draws: int
) -> tuple[float, float]:
    """The objective's mean nats per sequence: exact over the toy distribution, by Monte Carlo over the noise.

    One draw sees every sequence once, at noise levels u stratified over the sequences from a random start. Draws are
    independent. They come in equal batches, so there may be a few more than `draws`.

    Returns:
        The mean and its standard error.
    """
    probability = toy.probability.ravel()
    each = nats_of_each(objective, oracle, toy, key, draws) @ probability[probability > 0]
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def nats_of_each(
    objective: Objective, oracle: Oracle, toy: ToyDistribution, key: Array, draws: int
) -> Float[np.ndarray, "draws S"]:
    """The nats of each possible sequence, in the order of `toy.tokens`, in each draw of the noise."""
    tokens = jnp.asarray(toy.tokens[toy.probability.ravel() > 0])
    num = len(tokens)
    batches = -(-draws * num // BATCH)
    shape = (-(-draws // batches), num)
    objective_params = objective.init(key)

    def sequence_nats(key, tokens, u):
        example = Example(tokens, jnp.ones_like(tokens), jnp.zeros(tokens.shape, bool))
        views = objective.view(objective_params, key, example, u)

        def view_nats(view):
            return objective.token_loss(objective_params, oracle(view), view).sum() + view.constant

        return jax.vmap(view_nats)(views).mean()

    @jax.jit
    def draw_nats(keys, u):
        return jax.vmap(jax.vmap(sequence_nats), (0, None, 0))(keys, tokens, u)

    each = []
    for batch in range(batches):
        key_level, key_noise = jax.random.split(jax.random.fold_in(key, batch))
        u = (jax.random.uniform(key_level, (shape[0], 1)) + jnp.arange(num) / num) % 1
        each.append(np.asarray(draw_nats(jax.random.split(key_noise, shape), u), np.float64))
    return np.concatenate(each)


def _logits(toy: ToyDistribution) -> Float[Array, "*z L V"]:
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(conditionals(toy)), jnp.float32)


def _read_causally(
    logits: Float[Array, "*z L V"], tokens: Int[Array, "L"], own: Int[Array, "L"], target: Int[Array, "L"]
) -> Float[Array, "L V"]:
    """Position j has read the first j tokens of the view, each at its `own` position (-1: the start symbol)."""
    length = len(tokens)
    mask = logits.shape[0] - 1

    def at(position: Int[Array, ""], read: Bool[Array, "L"]) -> Float[Array, "V"]:
        visible = jnp.full(length, mask).at[jnp.where(read & (own >= 0), own, length)].set(tokens, mode="drop")
        return logits[tuple(visible)][position]

    return jax.vmap(at)(target, jnp.tri(length, dtype=bool))
