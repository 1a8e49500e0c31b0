"""The likelihoods of a trained run that are tighter than its training bound, as parts of one JSON object."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.confident import confident_nats
from mdlm_jax.evaluation.likelihood import Likelihood, per_token
from mdlm_jax.evaluation.orders import (
    OrderBound,
    causal_order_nats,
    left_to_right,
    order_bound,
    order_nats,
)
from mdlm_jax.objectives.base import full, loss_mask
from mdlm_jax.objectives.predictions import predicts_in_any_order, predicts_masked
from mdlm_jax.runs.evaluation_options import ELBO, LIKELIHOODS, check_likelihood
from mdlm_jax.runs.restore import Run

ORDERS = 64  # of a row
MASK_READERS = "accepted: any_order, masked and other objectives of masks, without blocks and model.time_conditioning"


class RowNats(NamedTuple):
    """-log p of R rows, or its upper bound."""

    nats: Float[np.ndarray, "R"]
    standard_error: Float[np.ndarray, "R"]  # of the choice of orders; 0 where exact
    over_orders: OrderBound | None  # where the nats are a bound of several orders


def chosen_likelihood(run: Run, name: str | None, draws: int | None, orders: int | None) -> str | None:
    """The key of LIKELIHOODS that a name asks for; None for what the objective reports.

    Args:
        run: The run.
        name: A key of LIKELIHOODS, elbo, or None.
        draws: The noise draws that are asked for, if any.
        orders: The random orders that are asked for, if any.

    Raises:
        UserError: There is no such likelihood, the run has no such one, or a number does not fit it.
    """
    check_likelihood(name, draws, orders)
    if name is not None:
        _check(run, name)
    return None if name == ELBO else name


def _check(run: Run, name: str) -> None:
    objective, trained = run.objective, run.config.objective.name
    if (objective.evaluate or objective).bound == "exact":
        raise UserError(f"--likelihood={name}: {trained} has an exact one; accepted: evaluate without --likelihood")
    if name == ELBO:
        return
    what = ""
    if run.config.objective.block_size:
        what = " in blocks"
    elif predicts_in_any_order(objective):
        if name == "orders":
            return
        what = ", which reads an order causally and has only --likelihood=orders"
    elif objective.mask is full and predicts_masked(objective, run.objective_params):
        if not run.model.architecture.time_conditioning:
            return
        what = " with model.time_conditioning"
    raise UserError(f"--likelihood={name}: not for {trained}{what}; {MASK_READERS}")


def tight_likelihood(run: Run, rows: Example, name: str, orders: int | None) -> tuple[Likelihood, dict]:
    """A likelihood of LIKELIHOODS, or its bound, in nats per token; and what the JSON says of it besides.

    Args:
        run: The run, as `chosen_likelihood` accepts it.
        rows: The text, fields [n, L].
        name: A key of LIKELIHOODS.
        orders: Of `orders`: K; None for 64.
    """
    tokens = np.asarray(loss_mask(rows)).sum(axis=1)
    orders = ORDERS if orders is None else orders
    found = tight_nats(run, rows, name, orders, batch_size=run.config.eval.batch_size)
    nats_per_token, standard_error = per_token(found.nats, tokens)
    return Likelihood(
        nats_per_token=nats_per_token,
        standard_error=standard_error,
        monte_carlo_error=float(np.sqrt((found.standard_error**2).sum()) / tokens.sum()),
        tokens=int(tokens.sum()),
        **how_tight(name, orders),
    ), {"likelihood_of": _sampler_of(run, name), **_bias(found.over_orders, tokens)}


def _sampler_of(run: Run, name: str) -> str:
    """The sampler that a likelihood is one of."""
    share = run.config.objective.shuffled_share
    if share == 1:
        return LIKELIHOODS[name]
    return f"the sampler that draws one token at a time: a random share of {share:g} first, the rest from left to right"


def tight_nats(
    run: Run,
    rows: Example,
    name: str,
    orders: int,
    *,
    batch_size: int,
    guidance: float | None = None,
    keys: Int[np.ndarray, "R"] | None = None,
) -> RowNats:
    """A likelihood of LIKELIHOODS, or its bound, of the tokens of each row that have a loss.

    Args:
        run: The run, as `chosen_likelihood` accepts it.
        rows: The text, fields [R, L].
        name: A key of LIKELIHOODS.
        orders: Of `orders`: K.
        batch_size: Views computed at once.
        guidance: Weight of classifier-free guidance by the prompt mask; None: no guidance.
        keys: A number of each row: equal keys are equal random orders. Default: its position.
    """
    if name == "orders":
        bound = order_bound(
            _of_each_order(run, rows, orders=orders, batch_size=batch_size, guidance=guidance, keys=keys)
        )
        return RowNats(bound.nats, bound.standard_error, bound)
    options = {"batch_size": batch_size, "shift": run.shift, "guidance": guidance}
    if name == "left_to_right":
        nats = order_nats(run.model, run.params, rows, orders=1, ranks=left_to_right, **options)[:, 0]
    else:
        nats = confident_nats(run.model, run.params, rows, chunk=run.config.train.loss_chunk, **options)
    return RowNats(nats, np.zeros(len(nats)), None)


def how_tight(name: str, orders: int) -> dict:
    """`draws`, `estimator` and `bound` of a likelihood of LIKELIHOODS."""
    if name == "orders":
        return {"draws": orders, "estimator": f"log of the mean over {orders} random orders", "bound": "upper"}
    return {"draws": 1, "estimator": "the one order of the sampler", "bound": "exact"}


def _bias(bound: OrderBound | None, tokens: np.ndarray) -> dict:
    """By how much the bound falls from K / 2 to K orders. Where the bias falls as 1 / K, as much of it is left."""
    if bound is None:
        return {}
    bias, bias_error = per_token(bound.half - bound.nats, tokens)
    return {
        "bias": bias,
        "bias_standard_error": bias_error,
        "half_the_orders": per_token(bound.half, tokens)[0],
        "mean_over_orders": per_token(bound.elbo, tokens)[0],
    }


def _of_each_order(run: Run, rows: Example, **options: Any) -> Float[np.ndarray, "R K"]:
    objective = run.objective.evaluate or run.objective
    if predicts_in_any_order(objective):
        return causal_order_nats(run.model, objective, run.params, rows, chunk=run.config.train.loss_chunk, **options)
    return order_nats(run.model, run.params, rows, shift=run.shift, **options)
