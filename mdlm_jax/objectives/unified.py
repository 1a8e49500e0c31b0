"""Masked diffusion over text and image in one row: jointly, each given the other, or each alone.

Reference: UniDisc, arXiv 2503.20853; Muddit, arXiv 2505.23606.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.any_order import any_order, mask_tokens
from mdlm_jax.objectives.base import Objective, Part, View, cross_entropy, full, loss_mask
from mdlm_jax.objectives.modality_tasks import TASKS, Task, draw_task, row_of_task
from mdlm_jax.objectives.parameterizations import leave_one_out
from mdlm_jax.processes.mixture import absorbing
from mdlm_jax.schedules import Schedule, check_schedule, linear

EARLIEST = 1e-6  # of the times: at 0 nothing is masked, and rates are 0 / 0
LEAST_SHARE = 1e-3  # Muddit's weight is 1 over the share of masks, or over this
SNR_LIMIT = 5.0  # UniDisc's gamma

# (P(masked), its derivative) -> the weight of a masked token's nats
WEIGHTS: dict[str, Callable] = {
    "bound": lambda masked, slope: slope / masked,
    "muddit": lambda masked, slope: 1 / jnp.maximum(masked, LEAST_SHARE),
    "unidisc": lambda masked, slope: slope / (masked + (1 - masked) / SNR_LIMIT),
}


def unified(
    mask_id: int,
    text_vocab: int,
    text_length: int,
    tasks: Mapping[str, float],
    text_schedule: Schedule,
    image_schedule: Schedule,
    weighting: str = "bound",
    independent_modalities: bool = False,
) -> Objective:
    """Draws a task for each row, and masks what the task scores: text by one schedule, image by another, at one time.

    With the weight h' / h of each modality's own P(masked) h, the mean nats of a task are a bound of its own: of
    -log p(T, I), -log p(T | I), -log p(I | T), -log p(T) or -log p(I), for any two schedules. A mixture of tasks is no
    bound of one of them, nor are the other weights. `evaluate` is the joint bound by the k-form of `any_order`, where
    both modalities are masked alike; on rows of `row_of_task` it is the bound of that task.

    Muddit hides exactly round(m L) tokens of L; here each is masked with probability m.

    Args:
        mask_id: V; the mask is the token after the V tokens.
        text_vocab: V_t: ids below it are text, ids from it on image.
        text_length: Positions of text; they come first.
        tasks: The share of rows of each of TASKS.
        text_schedule: P(masked) of text at each time.
        image_schedule: P(masked) of image.
        weighting: 'bound'; 'muddit', 1 over P(masked); or 'unidisc', h' / (h + (1 - h) / 5), which holds down small
            times.
        independent_modalities: Text and image each draw a time of their own. The mean of the joint task then is no
            bound of -log p(T, I): it may lie below it.

    Raises:
        UserError: V_t leaves no text or no image ids, a schedule falls, or a task or weighting is unknown.
    """
    if not 0 < text_vocab < mask_id:
        raise UserError(f"text_vocab={text_vocab}; accepted: 1 to {mask_id - 1}, below V = {mask_id}")
    if not tasks or tasks.keys() - TASKS or abs(sum(tasks.values()) - 1) > 1e-6 or min(tasks.values()) <= 0:
        raise UserError(f"tasks={dict(tasks)}; accepted: shares above 0 that sum to 1, of {', '.join(TASKS)}")
    if weighting not in WEIGHTS:
        raise UserError(f"weighting={weighting!r}; accepted: {', '.join(WEIGHTS)}")
    for name, schedule in (("text_schedule", text_schedule), ("image_schedule", image_schedule)):
        check_schedule(name, schedule)

    def view(objective_params, key, example: Example, u) -> View:
        key_time, key_masked = jax.random.split(key)
        number, t = draw_task(tasks, u)
        task = Task(*(jnp.array(values)[number] for values in zip(*(TASKS[name] for name in tasks), strict=True)))
        row = row_of_task(example, task, text_vocab, mask_id)
        t_image = jax.random.uniform(key_time) if independent_modalities else t
        masked, weight = noise_of_modalities(
            text_schedule, image_schedule, weighting, t, t_image, example.tokens >= text_vocab
        )
        hidden = loss_mask(row) & (jax.random.uniform(key_masked, row.tokens.shape) < masked)
        return mask_tokens(row, hidden, weight, mask_id, t)

    is_bound = list(tasks) == ["joint"] and weighting == "bound" and not independent_modalities
    parameterization = leave_one_out(absorbing(mask_id, linear()))
    return Objective(
        view,
        cross_entropy,
        full,
        bound="upper" if is_bound else "none",
        estimator="random times",
        evaluate=any_order_of_modalities(mask_id, text_vocab, text_length),
        parameterization=lambda objective_params: parameterization,
        parts=parts_of(mask_id, text_vocab, text_length),
        tasks=tuple(tasks),
        task_of=lambda u: draw_task(tasks, u)[0],
    )


def any_order_of_modalities(mask_id: int, text_vocab: int, text_length: int) -> Objective:
    """`any_order` with logits of the modality of each position alone: what `unified` is reported by."""
    return any_order(mask_id)._replace(parts=parts_of(mask_id, text_vocab, text_length))


def parts_of(mask_id: int, text_vocab: int, text_length: int) -> tuple[Part, Part]:
    """Text and image: the head and the softmax of a position cost what its modality has ids.

    Args:
        mask_id: V.
        text_vocab: V_t.
        text_length: Positions of text.
    """
    return Part(0, (0, text_vocab)), Part(text_length, (text_vocab, mask_id))


def noise_of_modalities(
    text_schedule: Schedule,
    image_schedule: Schedule,
    weighting: str,
    t: Float[Array, ""],
    t_image: Float[Array, ""],
    is_image: Bool[Array, "L"],
) -> tuple[Float[Array, "L"], Float[Array, "L"]]:
    """P(masked) of each position, and the weight of its nats where it is masked.

    Args:
        text_schedule: P(masked) of text at each time.
        image_schedule: P(masked) of image.
        weighting: A key of WEIGHTS.
        t: The time of text, in [0, 1].
        t_image: The time of image.
        is_image: The modality of each position.
    """

    def of(schedule: Schedule, time):
        time = jnp.maximum(time, EARLIEST)
        masked, slope = jax.jvp(schedule, (time,), (jnp.ones_like(time),))
        return masked, WEIGHTS[weighting](masked, slope)

    text, image = of(text_schedule, t), of(image_schedule, t_image)
    return jnp.where(is_image, image[0], text[0]), jnp.where(is_image, image[1], text[1])
