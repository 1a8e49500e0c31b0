"""Exact likelihood of answers left to right, and whether greedy decoding would give them."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from mdlm_jax.data import Example
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import Objective
from mdlm_jax.training.loss import largest_divisor, look


class Greedy(NamedTuple):
    """N answers under a network that predicts from left to right."""

    nats: Float[np.ndarray, "N"]  # -log p(answer | prompt)
    greedy: Bool[np.ndarray, "N"]  # whether every token of the answer is the likeliest one


def greedy_nats(
    model: Model, objective: Objective, params: Any, objective_params: Any, rows: Example, chunk: int
) -> Greedy:
    """Nats of the answer of each row given its prompt, all rows in one evaluation.

    Args:
        model: The network. It must not attend across segments, so that padding is not seen.
        objective: `ar`, with or without a start symbol.
        params: Parameters of the network.
        objective_params: Parameters of the objective.
        rows: Examples [N, L]: prompt and answer in segment 1, padding in segment 0.
        chunk: Positions of each row whose logits are held at once.
    """
    nats, misses = _program(model, objective, chunk)(params, objective_params, rows)
    return Greedy(np.asarray(nats, np.float64), np.asarray(misses) == 0)


@lru_cache(maxsize=4)
def _program(model: Model, objective: Objective, chunk: int):
    @jax.jit
    def program(params, objective_params, rows):
        count = len(rows.tokens)
        keys = jax.random.split(jax.random.key(0), count)  # the chain rule draws nothing
        view = look(objective, objective_params, keys, rows, jnp.zeros(count))
        hidden, _ = model.hidden(params, view, objective.mask)
        size = largest_divisor(hidden.shape[1], chunk)

        def of_chunk(start):
            here, targets, weight = (
                jax.lax.dynamic_slice_in_dim(field, start, size, axis=1)
                for field in (hidden, view.targets, view.weight)
            )
            logits = model.head(params, here)
            target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
            missed = (weight > 0) & (logits.argmax(axis=-1) != targets)
            return (weight * (jax.nn.logsumexp(logits, axis=-1) - target)).sum(axis=1), missed.sum(axis=1)

        nats, misses = jax.lax.map(of_chunk, jnp.arange(0, hidden.shape[1], size))
        return nats.sum(axis=0), misses.sum(axis=0)

    return program
