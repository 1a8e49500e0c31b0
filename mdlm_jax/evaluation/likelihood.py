"""Nats per token of held-out text, with its error: exact where the objective is, a low-variance bound elsewhere."""

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mdlm_jax.data import Example
from mdlm_jax.models.transformer import Model
from mdlm_jax.noise import spread
from mdlm_jax.objectives.base import Objective, loss_mask
from mdlm_jax.training.loss import look, nats

# noise of row i, draw j is the same for every checkpoint, so that two runs are compared on it; no seed of a config
EVALUATION_KEY = 2**32 - 59


class Likelihood(NamedTuple):
    nats_per_token: float
    standard_error: float  # over rows: of the text drawn, and of the noise
    monte_carlo_error: float  # the part of it due to the noise; 0 where exact
    tokens: int
    draws: int
    estimator: str
    bound: str  # exact | upper | none

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.nats_per_token, 700.0))

    def bits_per_byte(self, bytes_per_token: float | None) -> float | None:
        """Nats per token / ln 2 / bytes per token; None where tokens are no text."""
        return self.nats_per_token / math.log(2) / bytes_per_token if bytes_per_token else None


@lru_cache(maxsize=4)  # one program for all validations of a run
def _batch_nats(model: Model, reported: Objective, chunk: int, mesh: Mesh | None):
    # every process computes on the same rows and reads the whole answer
    @partial(jax.jit, out_shardings=None if mesh is None else NamedSharding(mesh, PartitionSpec()))
    def batch_nats(params, objective_params, rows, index, u):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(EVALUATION_KEY), index)
        _, each = nats(
            model, reported, params, objective_params, look(reported, objective_params, keys, rows, u), chunk
        )
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
    """The bound that `objective` reports, on rows [n, L], in nats per scored token.

    Row i is seen `draws` times, at noise levels ((j + i) mod draws + v_i) / draws with v_i spread evenly over the rows:
    stratified within each row and over all of them, so the error falls faster than with independent draws. Each draw
    covers all levels over the rows, so the spread between draws is the error of the noise (from above).
    """
    reported = objective.evaluate or objective
    exact = reported.bound == "exact"
    draws = 1 if exact else draws
    num_rows = rows.tokens.shape[0]
    batch_size = min(batch_size, num_rows)

    batch_nats = _batch_nats(model, reported, chunk, mesh)
    # `draws` rows share a shift and take the strata in turn, so that each draw covers all levels over the rows
    groups = -(-num_rows // draws)
    shift = ((spread(groups) + 0.5) / groups)[np.arange(num_rows) // draws]
    totals = np.zeros((num_rows, draws))
    for draw in range(draws):
        for start in range(0, num_rows, batch_size):
            # the last batch repeats rows to keep its shape
            index = np.minimum(np.arange(start, start + batch_size), num_rows - 1)
            part = jax.tree.map(lambda field: field[index], rows)  # noqa: B023
            u = (((draw + index) % draws + shift[index]) / draws).astype(np.float32)
            totals[index, draw] = batch_nats(params, objective_params, part, (index * draws + draw).astype(np.int32), u)

    tokens = np.asarray(loss_mask(rows)).sum(axis=1)
    mean = totals.mean(axis=1).sum() / tokens.sum()
    # a ratio of sums: the spread of what each row adds beyond the mean rate
    residual = totals.mean(axis=1) - mean * tokens
    per_draw = totals.sum(axis=0) / tokens.sum()
    return Likelihood(
        nats_per_token=float(mean),
        standard_error=float(np.sqrt((residual**2).sum() * num_rows / max(num_rows - 1, 1)) / tokens.sum()),
        monte_carlo_error=0.0 if draws == 1 else float(per_draw.std(ddof=1) / math.sqrt(draws)),
        tokens=int(tokens.sum()),
        draws=draws,
        estimator=reported.estimator,
        bound=reported.bound,
    )
