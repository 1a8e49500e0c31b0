"""Which image of several belongs to a caption, and which caption to an image, by their likelihood."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.classification import shares_of_least, task_nats
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import Objective


class Retrieved(NamedTuple):
    """How often the likeliest of several is a right one."""

    accuracy: float
    standard_error: float  # over groups: rows of a group share their candidates
    chance: float  # of a guess; above 1 / choices where candidates are equal


class Retrieval(NamedTuple):
    """By one direction of the likelihood."""

    images: Retrieved  # the image of a caption
    captions: Retrieved  # the caption of an image


def retrieval_nats(
    model: Model,
    objective: Objective,
    params: Any,
    objective_params: Any,
    rows: Int[np.ndarray, "n L"],
    choices: int,
    task: str,
    text_vocab: int,
    text_length: int,
    *,
    draws: int,
    batch_size: int,
    chunk: int,
) -> Float[np.ndarray, "groups choices choices"]:
    """The nats of every caption of a group with every image of it: [group, caption, image].

    All pairs of a group have the same noise, so that what they share cancels in their differences.

    Args:
        model: The network.
        objective: As in `caption_nats`.
        params: Parameters of the network.
        objective_params: Parameters of the objective.
        rows: Text, then image. Each `choices` rows in turn are a group; the rest is left out.
        choices: Rows of a group, 2 or more.
        task: As in `caption_nats`.
        text_vocab: V_t: ids below it are text.
        text_length: Positions of text.
        draws: Noise draws for each pair, an even number.
        batch_size: Views computed at once.
        chunk: Positions of a row whose logits exist at once.

    Raises:
        UserError: There is not one group.
    """
    groups = len(rows) // choices
    if choices < 2 or not groups:
        raise UserError(f"{choices} choices of {len(rows)} rows; accepted: 2 to {len(rows)}")
    grouped = rows[: groups * choices].reshape(groups, choices, -1)
    shape = (groups, choices, choices, -1)
    text = np.broadcast_to(grouped[:, :, None, :text_length], (*shape[:3], text_length))
    image = np.broadcast_to(grouped[:, None, :, text_length:], (*shape[:3], rows.shape[1] - text_length))
    nats = task_nats(
        model,
        objective,
        params,
        objective_params,
        np.concatenate([text, image], axis=-1).reshape(-1, rows.shape[1]),
        np.repeat(np.arange(groups), choices**2),
        task,
        text_vocab,
        draws=draws,
        batch_size=batch_size,
        chunk=chunk,
    )
    return nats.reshape(groups, choices, choices)


def retrieval(
    nats: Float[np.ndarray, "groups choices choices"], rows: Int[np.ndarray, "n L"], text_length: int
) -> Retrieval:
    """Accuracy both ways. An image with the same caption is right too, and so is a caption equal to the right one.

    Args:
        nats: The result of `retrieval_nats`.
        rows: The rows that it was computed from.
        text_length: Positions of text.
    """
    groups, choices, _ = nats.shape
    grouped = rows[: groups * choices].reshape(groups, choices, -1)
    same_text, same_image = (
        (part[:, :, None] == part[:, None]).all(axis=-1) for part in np.split(grouped, [text_length], axis=-1)
    )
    right = same_text | same_image
    return Retrieval(retrieved(nats, right), retrieved(nats.swapaxes(1, 2), right))


def retrieved(
    nats: Float[np.ndarray, "groups asked choices"], right: Bool[np.ndarray, "groups asked choices"]
) -> Retrieved:
    """The share of rows whose least nats are those of a right candidate. Of k equal ones, each counts 1 / k."""
    shares = shares_of_least(nats, right)
    by_group = shares.mean(axis=1)
    error = by_group.std(ddof=1) / math.sqrt(len(by_group)) if len(by_group) > 1 else math.nan
    return Retrieved(float(shares.mean()), float(error), float(right.mean()))
