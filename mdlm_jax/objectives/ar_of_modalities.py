"""Left to right over rows of text and image: text first, image first, or either for each row."""

import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.objectives.autoregressive import one_view, shift_right
from mdlm_jax.objectives.base import Objective, View, causal, cross_entropy, loss_mask
from mdlm_jax.objectives.unified import parts_of

# order -> the tasks whose likelihood it has, as it is a product of the conditionals that the network predicts
ANSWERS = {"text_first": ("joint", "text", "image_given_text"), "image_first": ("joint", "image", "text_given_image")}
ORDERS = (*ANSWERS, "flipped")


def ar_of_modalities(mask_id: int, text_vocab: int, text_length: int, order: str = "text_first") -> Objective:
    """`ar` on rows of text and image, the baseline of `unified`: each position predicts an id of its own modality.

    A position is that of the token which it predicts, so a network reads either order of a row with the same
    coordinates. With an order drawn for each row it has p(T) p(I | T) and p(I) p(T | I); what is reported is the
    first.

    Args:
        mask_id: V.
        text_vocab: V_t: ids below it are text, ids from it on image.
        text_length: Positions of text; they are stored first.
        order: Of ORDERS: what is read first; 'flipped' is either, each for half of the rows.

    Reference: UniDisc, arXiv 2503.20853, whose baseline reads text first.
    """

    def view(objective_params, key, example: Example, u) -> View:
        stored = jnp.arange(example.tokens.shape[-1])
        image_first = u < 0.5 if order == "flipped" else order == "image_first"
        read = jnp.where(image_first, jnp.roll(stored, -text_length), stored)
        return one_view(
            tokens=shift_right(example.tokens[read], example.segments[read], mask_id),
            targets=example.tokens,
            weight=loss_mask(example).astype(jnp.float32),
            t=jnp.zeros(1),
            positions=read[:, None],
            key_positions=read[:, None],
            segments=example.segments[read],
            constant=jnp.zeros(()),
            read_at=jnp.argsort(read),
        )

    parts, flipped = parts_of(mask_id, text_vocab, text_length), order == "flipped"
    return Objective(
        view,
        cross_entropy,
        causal,
        bound="upper" if flipped else "exact",
        estimator="chain rule in both orders" if flipped else "chain rule",
        parts=parts,
        evaluate=ar_of_modalities(mask_id, text_vocab, text_length) if flipped else None,
    )


def likelihoods_of_tasks(mask_id: int, text_vocab: int, text_length: int, order: str) -> dict[str, Objective]:
    """The exact likelihood of each task that a network of this order answers, on the rows of `row_of_task`.

    Args:
        mask_id: V.
        text_vocab: V_t.
        text_length: Positions of text.
        order: Of ORDERS.
    """
    trained = ANSWERS if order == "flipped" else (order,)
    found = {}
    for one in trained:
        objective = ar_of_modalities(mask_id, text_vocab, text_length, one)
        found = {task: objective for task in ANSWERS[one]} | found
    return found
