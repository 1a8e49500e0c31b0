"""The tasks of a row of text and image: both, one given the other, or one alone.

A task is a change of the row: a modality that is given becomes a prompt, and one that is left out a prompt of masks. So
every task is the masked objective on its own rows.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError


class Task(NamedTuple):
    """What a row is read for. A modality is scored, or it is given, or it is left out: then it is masked throughout."""

    scores_text: bool
    scores_image: bool
    gives: bool  # whether the modality that is not scored is given


TASKS = {
    "joint": Task(True, True, False),
    "image_given_text": Task(False, True, True),
    "text_given_image": Task(True, False, True),
    "text": Task(True, False, False),
    "image": Task(False, True, False),
}


def parse_tasks(text: str) -> dict[str, float]:
    """The share of rows of each task, from 'joint=0.5,image_given_text=0.5'; the shares are scaled to sum to 1.

    Raises:
        UserError: A task is unknown or named twice, or a share is not a number above 0.
    """
    accepted = f"such as joint=0.5,image_given_text=0.5, with {', '.join(TASKS)}, each once and above 0"
    try:
        pairs = [item.split("=") for item in text.replace(" ", "").split(",")]
        shares = {name: float(share) for name, share in pairs}
    except ValueError:
        raise UserError(f"objective.tasks={text!r}; accepted: {accepted}") from None
    if len(shares) < len(pairs) or shares.keys() - TASKS or not all(0 < share < np.inf for share in shares.values()):
        raise UserError(f"objective.tasks={text!r}; accepted: {accepted}")
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def draw_task(shares: Mapping[str, float], u: Float[Array, ""]) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """A task and a noise level from one number, so that both are stratified over a batch.

    Args:
        shares: The share of each task; they sum to 1.
        u: Uniform in [0, 1).

    Returns:
        The number of the task in `shares`, and a number that is uniform in [0, 1) given the task.
    """
    widths = jnp.array(list(shares.values()), jnp.float32)
    starts = jnp.cumsum(widths) - widths
    task = (u >= starts[1:]).sum()
    return task, jnp.clip((u - starts[task]) / widths[task], 0, 1 - 2**-24)


def row_of_task(example: Example, task: Task, text_vocab: int, mask_id: int) -> Example:
    """The row that a task reads: the same tokens, with a prompt in place of the modality that is not scored.

    Args:
        example: Rows of text and image, fields [.., L].
        task: The task. Its fields may be traced.
        text_vocab: V_t: ids below it are text, ids from it on image.
        mask_id: V.
    """
    is_image = example.tokens >= text_vocab
    scored = (is_image & task.scores_image) | (~is_image & task.scores_text)
    left_out = ~(scored | task.gives)
    where = np.where if isinstance(example.tokens, np.ndarray) else jnp.where
    return example._replace(tokens=where(left_out, mask_id, example.tokens), prompt_mask=example.prompt_mask | ~scored)
