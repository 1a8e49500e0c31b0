"""Which of several captions belongs to an image, by their likelihood."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.evaluation.pairs import pair_nats
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import Objective
from mdlm_jax.objectives.modality_tasks import TASKS, row_of_task

DIRECTIONS = ("text_given_image", "image_given_text")  # keys of TASKS: whose likelihood tells candidates apart


class Classified(NamedTuple):
    """How often the likeliest caption is the right one."""

    accuracy: float
    standard_error: float  # over images
    images: int
    captions: int  # to choose from


def caption_nats(
    model: Model,
    objective: Objective,
    params: Any,
    objective_params: Any,
    rows: Int[np.ndarray, "n L"],
    captions: Int[np.ndarray, "n C words"],
    task: str,
    text_vocab: int,
    *,
    draws: int,
    batch_size: int,
    chunk: int,
) -> Float[np.ndarray, "n C"]:
    """The nats of every caption of every image, with the same noise for all captions of an image.

    Common noise cancels in the differences between captions: those that a network cannot tell apart have equal nats.

    Args:
        model: The network.
        objective: `unified`, or another whose `evaluate` reads masks.
        params: Parameters of the network.
        objective_params: Parameters of the objective.
        rows: Text, then image.
        captions: What stands in the place of the text, C captions for each row.
        task: A key of TASKS: `text_given_image` gives -log p(caption | image), `image_given_text`
            -log p(image | caption), `joint` both.
        text_vocab: V_t: ids below it are text.
        draws: Noise draws for each caption, an even number.
        batch_size: Views computed at once.
        chunk: Positions of a row whose logits exist at once.
    """
    count, choices, words = captions.shape
    tokens = np.repeat(rows, choices, axis=0)
    tokens[:, :words] = captions.reshape(-1, words)
    nats = task_nats(
        model,
        objective,
        params,
        objective_params,
        tokens,
        np.repeat(np.arange(count), choices),
        task,
        text_vocab,
        draws=draws,
        batch_size=batch_size,
        chunk=chunk,
    )
    return nats.reshape(count, choices)


def task_nats(
    model: Model,
    objective: Objective,
    params: Any,
    objective_params: Any,
    rows: Int[np.ndarray, "n L"],
    noise: Int[np.ndarray, "n"],
    task: str,
    text_vocab: int,
    *,
    draws: int,
    batch_size: int,
    chunk: int,
) -> Float[np.ndarray, "n"]:
    """The nats of each row by one task, as `caption_nats`. Rows with equal numbers in `noise` have the same noise."""
    example = Example(rows, np.ones_like(rows), np.zeros(rows.shape, bool))
    return pair_nats(
        model,
        objective,
        params,
        objective_params,
        row_of_task(example, TASKS[task], text_vocab, model.architecture.vocab_size),
        draws=draws,
        batch_size=batch_size,
        chunk=chunk,
        keys=noise,
    ).nats


def classified(nats: Float[np.ndarray, "n C"], truth: Int[np.ndarray, "n"]) -> Classified:
    """The share of rows whose least nats are those of the true caption. Of k equal ones, each counts 1 / k.

    Args:
        nats: Of every caption.
        truth: The number of the right caption of each row.
    """
    shares = shares_of_least(nats, np.arange(nats.shape[1]) == truth[:, None])
    error = shares.std(ddof=1) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
    return Classified(float(shares.mean()), float(error), *nats.shape)


def shares_of_least(nats: Float[np.ndarray, "*n C"], right: Bool[np.ndarray, "*n C"]) -> Float[np.ndarray, "*n"]:
    """Of each row, the share of right candidates among those with the least nats."""
    least = nats == nats.min(axis=-1, keepdims=True)
    return (least & right).sum(axis=-1) / least.sum(axis=-1)


def logistic_regression(
    train: Float[np.ndarray, "m pixels"],
    labels: Int[np.ndarray, "m"],
    held_out: Float[np.ndarray, "n pixels"],
    truth: Int[np.ndarray, "n"],
) -> Classified:
    """scikit-learn's logistic regression on pixels, with its default penalty: what a caption model is compared with."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=5000).fit(train, labels)
    return classified(-fitted.predict_log_proba(held_out), truth)
