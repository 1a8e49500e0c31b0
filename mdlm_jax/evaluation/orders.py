"""The K-order importance bound of a network that reads masks: tighter than the mean over orders."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from mdlm_jax.data import Example
from mdlm_jax.evaluation.likelihood import row_nats
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.any_order import mask_tokens, random_ranks
from mdlm_jax.objectives.base import Objective, View, cross_entropy, full, loss_mask


class OrderBound(NamedTuple):
    """Bounds on -log of the mean over orders of p(row | order), for R rows."""

    nats: Float[np.ndarray, "R"]  # -log of the mean over K orders: at or above the limit, on average
    elbo: Float[np.ndarray, "R"]  # the mean over the same orders of -log p: never below `nats`


def order_bound(model: Model, params: Any, rows: Example, *, orders: int, batch_size: int, chunk: int) -> OrderBound:
    """Scores each row in K random orders, one token at a time: K L forward passes for a row of L positions.

    Args:
        model: A network of a masked objective that does not read the time.
        params: Parameters of the network.
        rows: Examples [R, L].
        orders: K.
        batch_size: Views computed at once.
        chunk: Positions of each view whose logits are held at once.

    Reference: importance-weighted bounds, arXiv 1509.00519; any-order models, arXiv 2110.02037.
    """
    num_rows, length = rows.tokens.shape
    which, order, step = (index.reshape(-1) for index in np.indices((num_rows, orders, length)))
    each = row_nats(
        model,
        _one_step(model.architecture.vocab_size),
        params,
        (),
        rows,
        which,
        noise=which * orders + order,
        u=(step + 0.5) / length,
        batch_size=batch_size,
        chunk=chunk,
    )
    of_order = each.reshape(num_rows, orders, length).sum(axis=2)
    return OrderBound(np.log(orders) - logsumexp(-of_order, axis=1), of_order.mean(axis=1))


@lru_cache(maxsize=4)  # one program for all batches
def _one_step(mask_id: int) -> Objective:
    """The nats of one token of a random order, given the tokens before it in that order."""

    def view(objective_params, key, example: Example, u) -> View:
        eligible = loss_mask(example)
        ranks = random_ranks(key, eligible)
        step = jnp.floor(u * example.tokens.shape[0]).astype(jnp.int32)
        seen = mask_tokens(example, eligible & (ranks >= step), 1.0, mask_id, 0.0)
        return seen._replace(weight=seen.weight * (ranks == step))

    return Objective(view, cross_entropy, full, bound="upper", estimator="random orders")
