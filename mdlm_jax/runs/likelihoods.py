"""The likelihoods of a trained run that are tighter than its training bound, as parts of one JSON object."""

import numpy as np
from jaxtyping import Float

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.confident import confident_nats
from mdlm_jax.evaluation.likelihood import Likelihood, per_token
from mdlm_jax.evaluation.orders import MOST_ORDERS, causal_order_nats, left_to_right, order_bound, order_nats
from mdlm_jax.objectives.base import full, loss_mask
from mdlm_jax.objectives.predictions import predicts_in_any_order, predicts_masked
from mdlm_jax.runs.restore import Run

ORDERS = 64  # of a row
# what each is a likelihood of: a sampler that unmasks one token at a time and draws it from the network's distribution
LIKELIHOODS = {
    "orders": "the sampler that unmasks one token at a time, each order equally likely",
    "left_to_right": "the sampler that unmasks one token at a time, from left to right",
    "confidence": "the sampler that unmasks one token at a time, first where its likeliest token is most probable",
}
MASK_READERS = "accepted: any_order, masked and other objectives of masks, without blocks and model.time_conditioning"


def check_likelihood(run: Run, name: str, draws: int | None, orders: int | None) -> None:
    """Raises UserError if `name` is no likelihood, the run has no such one, or a number does not fit it."""
    if name not in LIKELIHOODS:
        raise UserError(f"--likelihood={name}; accepted: {', '.join(LIKELIHOODS)}")
    if draws is not None:
        raise UserError(f"--draws={draws} with --likelihood={name}; accepted: one of the two")
    if orders is not None and not (2 <= orders <= MOST_ORDERS and orders % 2 == 0):
        raise UserError(f"--orders={orders}; accepted: an even number, 2 to {MOST_ORDERS}")
    objective, trained = run.objective, run.config.objective.name
    if (objective.evaluate or objective).bound == "exact":
        raise UserError(f"--likelihood={name}: {trained} has an exact one; accepted: evaluate without --likelihood")
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
        run: The run, as `check_likelihood` accepts it.
        rows: The text, fields [n, L].
        name: A key of LIKELIHOODS.
        orders: Of `orders`: K; None for 64.
    """
    tokens = np.asarray(loss_mask(rows)).sum(axis=1)
    of_what = {"likelihood_of": LIKELIHOODS[name]}
    if name == "orders":
        found, more = _of_random_orders(run, rows, tokens, ORDERS if orders is None else orders)
        return found, of_what | more
    options = {"batch_size": run.config.eval.batch_size, "shift": run.shift}
    if name == "left_to_right":
        nats = order_nats(run.model, run.params, rows, orders=1, ranks=left_to_right, **options)[:, 0]
    else:
        nats = confident_nats(run.model, run.params, rows, chunk=run.config.train.loss_chunk, **options)
    nats_per_token, standard_error = per_token(nats, tokens)
    return Likelihood(
        nats_per_token=nats_per_token,
        standard_error=standard_error,
        monte_carlo_error=0.0,
        tokens=int(tokens.sum()),
        draws=1,
        estimator="the one order of the sampler",
        bound="exact",
    ), of_what


def _of_random_orders(run: Run, rows: Example, tokens: np.ndarray, orders: int) -> tuple[Likelihood, dict]:
    """The K-order importance bound.

    `bias` is by how much it falls from K / 2 to K orders. Where the bias falls as 1 / K, as much of it is left.
    """
    bound = order_bound(_of_each_order(run, rows, orders))
    nats_per_token, standard_error = per_token(bound.nats, tokens)
    bias, bias_error = per_token(bound.half - bound.nats, tokens)
    return Likelihood(
        nats_per_token=nats_per_token,
        standard_error=standard_error,
        monte_carlo_error=float(np.sqrt((bound.standard_error**2).sum()) / tokens.sum()),
        tokens=int(tokens.sum()),
        draws=orders,
        estimator=f"log of the mean over {orders} random orders",
        bound="upper",
    ), {
        "bias": bias,
        "bias_standard_error": bias_error,
        "half_the_orders": per_token(bound.half, tokens)[0],
        "mean_over_orders": per_token(bound.elbo, tokens)[0],
    }


def _of_each_order(run: Run, rows: Example, orders: int) -> Float[np.ndarray, "R K"]:
    batch_size, objective = run.config.eval.batch_size, run.objective.evaluate or run.objective
    if predicts_in_any_order(objective):
        chunk = run.config.train.loss_chunk
        return causal_order_nats(
            run.model, objective, run.params, rows, orders=orders, batch_size=batch_size, chunk=chunk
        )
    return order_nats(run.model, run.params, rows, orders=orders, batch_size=batch_size, shift=run.shift)
