"""Finds the range of noise levels in which the loss of block diffusion has the least variance.

Reference: BD3-LM, arXiv 2503.09573, section 5.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.build.objective import objective_of
from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.likelihood import EVALUATION_KEY
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import Objective, loss_mask
from mdlm_jax.runs.held_out import open_held_out
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.say import counted
from mdlm_jax.training.loss import look, nats

STEP, NARROWEST = 0.1, 0.3  # the grid of ranges; a narrower range would hardly train the other levels


class Clip(NamedTuple):
    """A range of noise levels and the loss in it."""

    low: float
    high: float
    mean: float  # training loss with times in this range, nats per token; a bound only for [0, 1]
    variance: float  # variance of a row's nats per token, over rows and noise


def clip_variances(
    model: Model,
    objective_of_clip: Callable[[float, float], Objective],
    params: Any,
    objective_params: Any,
    rows: Example,
    *,
    draws: int,
    chunk: int,
) -> list[Clip]:
    """Mean and variance of the loss for every range of the grid, sorted by variance.

    Every range is evaluated on the same rows with the same keys.

    Args:
        model: The network.
        objective_of_clip: (low, high) -> the objective clipped to this range.
        params: The parameters of the network.
        objective_params: The objective's own parameters.
        rows: The text, fields [n, L].
        draws: Noise draws per row.
        chunk: Positions of a row whose logits exist at once.
    """
    found = []
    num_scored = np.maximum(np.asarray(loss_mask(rows)).sum(axis=1), 1)
    keys = jax.random.split(jax.random.key(EVALUATION_KEY), len(rows.tokens))
    for low, high in counted("ranges of noise levels", ranges()):
        objective = objective_of_clip(low, high)

        @jax.jit
        def row_nats(keys, u, objective=objective):
            _, each = nats(
                model, objective, params, objective_params, look(objective, objective_params, keys, rows, u), chunk
            )
            return each.reshape(-1, objective.views).mean(axis=1)

        each = []
        for draw in range(draws):
            keys_now = jax.vmap(jax.random.fold_in, (0, None))(keys, draw)
            keys_time, keys_view = jnp.unstack(jax.vmap(jax.random.split)(keys_now), axis=1)
            u = jax.vmap(jax.random.uniform)(keys_time)
            each.append(np.asarray(row_nats(keys_view, u)) / num_scored)
        found.append(Clip(low, high, float(np.mean(each)), float(np.var(each))))
    return sorted(found, key=lambda clip: clip.variance)


def ranges() -> list[tuple[float, float]]:
    """Every [low, high] of the grid that is wide enough, including [0, 1]."""
    edges = np.round(np.arange(0, 1 + STEP / 2, STEP), 10)
    return [(float(low), float(high)) for low in edges for high in edges if high - low >= NARROWEST - 1e-9]


def search_run(folder: pathlib.Path, *, draws: int, sequences: int) -> list[Clip]:
    """The ranges for a run that was trained in blocks.

    Args:
        folder: The run's folder.
        draws: Noise draws per row.
        sequences: Held-out rows.

    Raises:
        UserError: The run has no blocks or cannot be opened, or a number is out of range.
    """
    if draws < 1:
        raise UserError(f"--draws={draws}; accepted with --clip: 1 or more")
    run = open_run(folder)
    config = run.config
    if not config.objective.block_size:
        raise UserError(f"{folder} was trained without blocks; accepted: a run with objective.block_size above 0")

    def of_clip(low: float, high: float) -> Objective:
        copy = config.copy_and_resolve_references()
        copy.objective.block_low, copy.objective.block_high = low, high
        return objective_of(copy, run.vocab_size)

    return clip_variances(
        run.model,
        of_clip,
        run.params,
        run.objective_params,
        open_held_out(run, folder, sequences).rows,
        draws=draws,
        chunk=config.train.loss_chunk,
    )
