"""Likelihood of an answer given its prompt, with an error for each pair."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdlm_jax.data import Example
from mdlm_jax.evaluation.likelihood import NUMBERS, row_nats
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import Objective, loss_mask

LEVELS_SEED = 0  # of the noise levels inside their strata, the same for every checkpoint


class PairNats(NamedTuple):
    """-log p(answer | prompt) of N pairs, or its upper bound."""

    nats: Float[np.ndarray, "N"]  # of all tokens of the answer
    standard_error: Float[np.ndarray, "N"]  # of the noise; 0 where exact
    tokens: Int[np.ndarray, "N"]  # of the answer


def pair_nats(
    model: Model,
    objective: Objective,
    params: Any,
    objective_params: Any,
    rows: Example,
    *,
    draws: int,
    batch_size: int,
    chunk: int,
    guidance: float | None = None,
    keys: Int[np.ndarray, "N"] | None = None,
) -> PairNats:
    """Nats of the answer of each row, given the tokens in its prompt mask.

    A bound is a mean over views with two independent noise levels in each of `draws` / 2 strata of [0, 1]. The
    difference of the two gives an unbiased estimate of the variance of the mean. The noise of a pair depends on its key
    alone.

    Args:
        model: The network. It must not attend across segments, so that padding is not seen.
        objective: The objective of the run.
        params: Parameters of the network.
        objective_params: Parameters of the objective.
        rows: Examples [N, L]: prompt and answer in segment 1, padding in segment 0.
        draws: Views of each pair, an even number; an exact objective needs only one.
        batch_size: Views computed at once.
        chunk: Positions of each view whose logits are held at once.
        guidance: Weight w of classifier-free guidance: logits are u + (1 + w) (c - u), for a loss that is a
            cross-entropy. None: no guidance.
        keys: A number of each pair, 0 or more: equal keys are equal noise. Default: its position.

    Reference: LLaDA, arXiv 2502.09992, whose conditional likelihood draws counts uniformly, without strata.
    """
    reported = objective.evaluate or objective
    exact = reported.bound == "exact"
    draws = 1 if exact else draws
    num_pairs, strata = len(rows.tokens), max(draws // 2, 1)
    keys = np.arange(num_pairs) if keys is None else keys
    within = np.array([np.random.default_rng((LEVELS_SEED, key)).random(draws) for key in keys.tolist()])
    u = np.minimum(np.float32((np.arange(draws) // 2 + within) / strata), np.nextafter(np.float32(1), np.float32(0)))
    each = row_nats(
        model,
        reported,
        params,
        objective_params,
        rows,
        np.repeat(np.arange(num_pairs), draws),
        noise=((keys[:, None] * draws + np.arange(draws)) % NUMBERS).reshape(-1),
        u=u.reshape(-1),
        batch_size=batch_size,
        chunk=chunk,
        guidance=guidance,
    ).reshape(num_pairs, draws)
    error = np.zeros(num_pairs)
    if not exact:
        first, second = each[:, ::2], each[:, 1::2]
        error = np.sqrt(((first - second) ** 2).sum(axis=1)) / draws
    return PairNats(each.mean(axis=1), error, np.asarray(loss_mask(rows)).sum(axis=1))
