"""Nats per token of held-out text, with standard error: exact for exact objectives, else a low-variance bound."""

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from mdlm_jax.data import Example
from mdlm_jax.models.transformer import Model
from mdlm_jax.noise import bit_reversed
from mdlm_jax.objectives.base import MaskFn, Objective, View, loss_mask
from mdlm_jax.training.loss import look, nats

# every checkpoint is evaluated with the same noise for row i and draw j, so that runs compare; no config can set it
EVALUATION_KEY = 2**32 - 59
NUMBERS = 2**31  # how many numbers noise has


class Likelihood(NamedTuple):
    """The estimated likelihood of held-out text."""

    nats_per_token: float
    standard_error: float  # over rows: from the choice of text, and from the noise
    monte_carlo_error: float  # the part of it from the noise; 0 where exact
    tokens: int  # tokens with a loss
    draws: int  # noise draws per row
    estimator: str
    bound: str  # exact | upper | none

    @property
    def perplexity(self) -> float:
        """exp(nats per token), at most exp(700)."""
        return math.exp(min(self.nats_per_token, 700.0))

    def bits_per_byte(self, bytes_per_token: float | None) -> float | None:
        """Nats per token / ln 2 / bytes per token; None where tokens are not text."""
        return self.nats_per_token / math.log(2) / bytes_per_token if bytes_per_token else None


@lru_cache(maxsize=16)  # one program for all validations of a run, and of runs that share their functions
def _batch_nats(
    model: Model, reported: Objective, chunk: int, mesh: Mesh | None, guidance: float | None, scored_only: bool
):
    # every process computes the same rows and reads the whole result
    @partial(jax.jit, out_shardings=None if mesh is None else NamedSharding(mesh, PartitionSpec()))
    def batch_nats(params, objective_params, rows, index, u):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(EVALUATION_KEY), index)
        view, network = look(reported, objective_params, keys, rows, u), model
        if guidance is not None:
            # the noise depends on the loss mask alone: both views have the same masks
            without = look(reported, objective_params, keys, without_prompt(rows, model.architecture.vocab_size), u)
            network = guided(model, without, guidance)
        _, each = nats(network, reported, params, objective_params, view, chunk, scored_only=scored_only)
        return each.reshape(-1, reported.views).mean(axis=1)

    return batch_nats


def evaluate(
    model: Model,
    objective: Objective,
    params: Any,
    objective_params: Any,
    rows: Example,
    *,
    draws: int,
    batch_size: int,
    chunk: int,
    mesh: Mesh | None = None,
) -> Likelihood:
    """The bound that `objective` reports, in nats per token with a loss.

    Row i is evaluated `draws` times, at noise levels ((j + i) mod draws + v_i) / draws, with v_i spread evenly over the
    rows. The levels are stratified within each row and over all rows, so the error falls faster than with independent
    draws. Each draw covers all levels over the rows, so the spread between draws bounds the error of the noise from
    above.

    Args:
        model: The network.
        objective: The objective; `objective.evaluate` is what is reported, if it is set.
        params: The parameters of the network.
        objective_params: The objective's own parameters.
        rows: The text, fields [n, L].
        draws: Noise draws per row; an exact objective takes one.
        batch_size: Rows evaluated at once.
        chunk: Positions of a row whose logits exist at once.
        mesh: The devices that the network is split over; None for one.
    """
    reported = objective.evaluate or objective
    exact = reported.bound == "exact"
    draws = 1 if exact else draws
    num_rows = rows.tokens.shape[0]
    # groups of `draws` rows share a shift and take the strata in turn: each draw covers all levels over the rows
    groups = -(-num_rows // draws)
    shift = ((bit_reversed(groups) + 0.5) / groups)[np.arange(num_rows) // draws]
    totals = np.zeros((num_rows, draws))
    index = np.arange(num_rows)
    for draw in range(draws):
        totals[:, draw] = row_nats(
            model,
            reported,
            params,
            objective_params,
            rows,
            index,
            noise=index * draws + draw,
            u=((draw + index) % draws + shift) / draws,
            batch_size=batch_size,
            chunk=chunk,
            mesh=mesh,
        )

    tokens = np.asarray(loss_mask(rows)).sum(axis=1)
    mean, error = per_token(totals.mean(axis=1), tokens)
    per_draw = totals.sum(axis=0) / tokens.sum()
    return Likelihood(
        nats_per_token=mean,
        standard_error=error,
        monte_carlo_error=0.0 if draws == 1 else float(per_draw.std(ddof=1) / math.sqrt(draws)),
        tokens=int(tokens.sum()),
        draws=draws,
        estimator=reported.estimator,
        bound=reported.bound,
    )


def per_token(nats_of_row: Float[np.ndarray, "n"], tokens: Int[np.ndarray, "n"]) -> tuple[float, float]:
    """Nats per token and their standard error over rows.

    It is that of a ratio of sums: the spread of each row's nats around the mean rate times its tokens.
    """
    num_rows = len(tokens)
    mean = nats_of_row.sum() / tokens.sum()
    residual = nats_of_row - mean * tokens
    error = np.sqrt((residual**2).sum() * num_rows / max(num_rows - 1, 1)) / tokens.sum()
    return float(mean), float(error)


def row_nats(
    model: Model,
    objective: Objective,
    params: Any,
    objective_params: Any,
    rows: Example,
    which: Int[np.ndarray, "n"],
    *,
    noise: Int[np.ndarray, "n"],
    u: Float[np.ndarray, "n"],
    batch_size: int,
    chunk: int,
    mesh: Mesh | None = None,
    guidance: float | None = None,
    scored_only: bool = False,
) -> Float[np.ndarray, "n"]:
    """Nats of whole rows, each view with its own noise.

    Args:
        model: The network.
        objective: What is reported, `Objective.evaluate` where there is one.
        params: Parameters of the network.
        objective_params: Parameters of the objective.
        rows: Examples [R, L].
        which: The row of each of the n views.
        noise: The number of each view's noise; equal numbers are equal noise.
        u: The noise level of each view, in [0, 1).
        batch_size: Views computed at once.
        chunk: Positions of each view whose logits are held at once.
        mesh: The devices that the network is split over.
        guidance: Weight of classifier-free guidance by the prompt; None: no guidance.
        scored_only: Compute logits only at positions whose weight is not 0.
    """
    batch_nats = _batch_nats(model, objective, chunk, mesh, guidance, scored_only)
    count = len(which)
    batch_size = min(batch_size, count)
    found = np.zeros(count)
    for start in range(0, count, batch_size):
        # the last batch repeats views to keep its shape
        index = np.minimum(np.arange(start, start + batch_size), count - 1)
        part = jax.tree.map(lambda field: field[which[index]], rows)  # noqa: B023
        found[index] = batch_nats(
            params, objective_params, part, noise[index].astype(np.int32), u[index].astype(np.float32)
        )
    return found


def without_prompt(rows: Example, mask_id: int) -> Example:
    """The rows with masks in the place of their prompts."""
    return rows._replace(tokens=jnp.where(rows.prompt_mask, mask_id, rows.tokens))


def guided(model: Model, without: View, weight: float) -> Model:
    """The model with the logits u + (1 + weight) (c - u): c from the view it reads, u from the view `without` a prompt.

    The formula is for logits; the head is affine and the weights sum to one, so it may come before the head.

    Reference: SMDM, arXiv 2410.18514, section 4.2.
    """

    def hidden(params, view: View, mask: MaskFn, **options):
        with_prompt, _ = model.hidden(params, view, mask, **options)
        unconditional, _ = model.hidden(params, without, mask, **options)
        return unconditional + (1 + weight) * (with_prompt - unconditional), None

    return model._replace(hidden=hidden)
