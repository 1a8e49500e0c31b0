"""Nats of each task on rows of text and image, and how far they agree on the likelihood of the whole row."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mdlm_jax.data import Example
from mdlm_jax.evaluation.likelihood import evaluate
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import Objective
from mdlm_jax.objectives.modality_tasks import TASKS, row_of_task


class TaskNats(NamedTuple):
    """The likelihood of one task, or its bound. Given tokens do not count."""

    nats_per_row: float
    nats_per_token: float
    standard_error: float  # of the nats per row, over rows
    monte_carlo_error: float  # the part of it from the noise
    tokens: int  # tokens with a loss in a row


class Agreement(NamedTuple):
    """Three upper bounds of the nats of a row, which are equal for a network whose conditionals fit together."""

    joint: float
    text_first: float  # text, then image given text
    image_first: float  # image, then text given image

    @property
    def spread(self) -> float:
        """The largest less the smallest, in nats a row."""
        return max(self) - min(self)


def evaluate_tasks(
    model: Model,
    objectives: Mapping[str, Objective],
    params: Any,
    objective_params: Any,
    rows: Example,
    text_vocab: int,
    *,
    draws: int,
    batch_size: int,
    chunk: int,
) -> dict[str, TaskNats]:
    """The likelihood of each task or its bound, with the same noise for row i and draw j.

    Args:
        model: The network.
        objectives: By the names of the tasks: `unified`, or those of `likelihoods_of_tasks`.
        params: The parameters of the network.
        objective_params: The objective's own parameters.
        rows: Rows of text and image, fields [n, L].
        text_vocab: V_t: ids below it are text.
        draws: Noise draws a row.
        batch_size: Rows evaluated at once.
        chunk: Positions of a row whose logits exist at once.
    """
    found = {}
    for name, objective in objectives.items():
        task_rows = row_of_task(rows, TASKS[name], text_vocab, model.architecture.vocab_size)
        options = {"draws": draws, "batch_size": batch_size, "chunk": chunk}
        likelihood = evaluate(model, objective, params, objective_params, task_rows, **options)
        tokens = likelihood.tokens // len(rows.tokens)
        errors = (tokens * likelihood.standard_error, tokens * likelihood.monte_carlo_error)
        found[name] = TaskNats(tokens * likelihood.nats_per_token, likelihood.nats_per_token, *errors, tokens)
    return found


def agreement(tasks: dict[str, TaskNats]) -> Agreement:
    """The bounds of H(T, I), of H(T) + H(I | T) and of H(I) + H(T | I)."""
    nats = {name: task.nats_per_row for name, task in tasks.items()}
    text_first, image_first = nats["text"] + nats["image_given_text"], nats["image"] + nats["text_given_image"]
    return Agreement(nats["joint"], text_first, image_first)


def bits_per_dimension(nats_per_image: float, numbers: int) -> float:
    """Bits per pixel and channel, where image tokens are the `numbers` = height x width x channels without loss."""
    return nats_per_image / math.log(2) / numbers
