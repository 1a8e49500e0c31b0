"""The likelihood of a network that reads masks, one token at a time: in random orders, or in a fixed one."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import logsumexp

from mdlm_jax.data import Example
from mdlm_jax.evaluation.likelihood import NUMBERS, row_nats
from mdlm_jax.evaluation.order_numbers import MOST_ORDERS
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.any_order import mask_tokens, random_ranks
from mdlm_jax.objectives.base import Objective, View, cross_entropy, full, loss_mask
from mdlm_jax.objectives.shifted import shifted

VIEWS = 2**20  # whose numbers are in memory at once

# (key, which positions have a loss) -> their ranks 0 .. n-1 in the order of decoding; those of the others are n or more
RanksFn = Callable[[Array, Bool[Array, "L"]], Int[Array, "L"]]


class OrderBound(NamedTuple):
    """Bounds on -log of the mean over orders of p(row | order), for R rows and K orders of each."""

    nats: Float[np.ndarray, "R"]  # -log of the mean over K orders: at or above the limit, on average
    half: Float[np.ndarray, "R"]  # the same of K / 2 orders, the mean over both halves: never below `nats`
    elbo: Float[np.ndarray, "R"]  # the mean over the same orders of -log p: never below `half`
    standard_error: Float[np.ndarray, "R"]  # of the choice of orders: half of the difference between the halves


def order_bound(of_order: Float[np.ndarray, "R K"]) -> OrderBound:
    """The K-order importance bound from the nats of each order.

    Args:
        of_order: -log p(row | order) of K independent random orders of each of R rows. K is even.

    Reference: Importance-weighted bounds, arXiv 1509.00519; any-order models, arXiv 2110.02037.
    """
    halves = log_mean(of_order.reshape(len(of_order), 2, -1))
    error = np.abs(halves[:, 0] - halves[:, 1]) / 2
    return OrderBound(log_mean(of_order), halves.mean(axis=1), of_order.mean(axis=1), error)


def log_mean(of_order: Float[np.ndarray, "*n K"]) -> Float[np.ndarray, "*n"]:
    """-log of the mean over K orders of p, from -log p."""
    return np.asarray(np.log(of_order.shape[-1]) - logsumexp(-of_order, axis=-1))


def order_nats(
    model: Model,
    params: Any,
    rows: Example,
    *,
    orders: int,
    batch_size: int,
    ranks: RanksFn = random_ranks,
    shift: bool = False,
    guidance: float | None = None,
    keys: Int[np.ndarray, "R"] | None = None,
) -> Float[np.ndarray, "R K"]:
    """-log p(row | order) for K orders of each row: K forward passes for each token that has a loss.

    A pass shows the tokens before one in the order, masks that one and those after it, and computes the logits of that
    one alone.

    Args:
        model: A network that reads masks and sees the whole row, without time conditioning.
        params: Parameters of the network.
        rows: Examples [R, L].
        orders: K, at most MOST_ORDERS.
        batch_size: Views computed at once.
        ranks: The order of a row's tokens. Default: uniformly random.
        shift: Whether a position predicts the token after the one it reads.
        guidance: Weight of classifier-free guidance by the prompt mask; None: no guidance.
        keys: A number of each row, 0 or more: equal keys are equal orders. Default: its position.
    """
    num_tokens, length = np.asarray(loss_mask(rows)).sum(axis=1), rows.tokens.shape[1]
    keys = np.arange(len(num_tokens)) if keys is None else keys
    objective = _one_token(model.architecture.vocab_size, ranks, shift)
    found = np.zeros((len(num_tokens), orders))
    at_once = max(VIEWS // (orders * length), 1)
    for start in range(0, len(num_tokens), at_once):
        part = num_tokens[start : start + at_once]
        views = np.indices((len(part), orders, length)).reshape(3, -1)
        which, order, step = views[:, views[2] < part[views[0]]]
        each = row_nats(
            model,
            objective,
            params,
            (),
            jax.tree.map(lambda field: field[start : start + at_once], rows),  # noqa: B023
            which,
            noise=(keys[start + which] * MOST_ORDERS + order) % NUMBERS,
            u=(step + 0.5) / length,
            batch_size=batch_size,
            chunk=1,  # one position of a view is scored
            guidance=guidance,
            scored_only=True,
        )
        np.add.at(found, (start + which, order), each)
    return found


def left_to_right(key: Array, eligible: Bool[Array, "L"]) -> Int[Array, "L"]:
    """The ranks of the order from left to right, for `order_nats` with one order."""
    return jnp.where(eligible, jnp.cumsum(eligible) - 1, eligible.size)


def causal_order_nats(
    model: Model,
    objective: Objective,
    params: Any,
    rows: Example,
    *,
    orders: int,
    batch_size: int,
    chunk: int,
    guidance: float | None = None,
    keys: Int[np.ndarray, "R"] | None = None,
) -> Float[np.ndarray, "R K"]:
    """As `order_nats`, for a network that reads a random order causally: one forward pass for each order.

    Args:
        model: A network of `any_order_causal`.
        objective: The objective `any_order_causal`.
        params: Parameters of the network.
        rows: Examples [R, L].
        orders: K, at most MOST_ORDERS.
        batch_size: Orders computed at once.
        chunk: Positions of each order whose logits are held at once.
        guidance: Weight of classifier-free guidance by the prompt mask; None: no guidance.
        keys: A number of each row, 0 or more: equal keys are equal orders. Default: its position.
    """
    which, order = np.indices((len(rows.tokens), orders)).reshape(2, -1)
    keys = np.arange(len(rows.tokens)) if keys is None else keys
    each = row_nats(
        model,
        objective,
        params,
        (),
        rows,
        which,
        noise=(keys[which] * MOST_ORDERS + order) % NUMBERS,
        u=np.zeros(which.shape),
        batch_size=batch_size,
        chunk=chunk,
        guidance=guidance,
    )
    return each.reshape(-1, orders)


@lru_cache(maxsize=4)  # one program for all batches
def _one_token(mask_id: int, ranks: RanksFn, shift: bool) -> Objective:
    """The nats of one token of an order, given the tokens before it in that order; u chooses the token."""

    def view(objective_params, key, example: Example, u) -> View:
        eligible = loss_mask(example)
        rank = ranks(key, eligible)
        step = jnp.floor(u * example.tokens.shape[0]).astype(jnp.int32)
        seen = mask_tokens(example, eligible & (rank >= step), 1.0, mask_id, 0.0)
        return seen._replace(weight=seen.weight * (rank == step))

    objective = Objective(view, cross_entropy, full, bound="exact", estimator="one token of an order")
    return shifted(objective) if shift else objective
