"""A network for rows of text and image that gives each position the logits of its own modality alone."""

import jax.numpy as jnp

from mdlm_jax.models.transformer import Model


def within_modality(model: Model, text_vocab: int, text_length: int) -> Model:
    """The network with logits of -inf for the other modality: every sampler then draws words for text, codes for image.

    The input of the head carries one number more, whether its position is of the image. It is the same for both
    readings of a row that guidance mixes, so the restriction comes after guidance.

    Args:
        model: The network.
        text_vocab: V_t: ids below it are text.
        text_length: Positions of text; they come first.
    """

    def hidden(params, view, mask, **options):
        found, cache = model.hidden(params, view, mask, **options)
        is_image = view.positions[:, : found.shape[1], :1] >= text_length
        return jnp.concatenate([found, is_image.astype(found.dtype)], axis=-1), cache

    def head(params, found):
        logits, is_image = model.head(params, found[..., :-1]), found[..., -1:] > 0.5
        if logits.shape[-1] < model.architecture.vocab_size:  # a head of one modality's ids
            return logits
        return jnp.where((jnp.arange(logits.shape[-1]) >= text_vocab) == is_image, logits, -jnp.inf)

    return model._replace(hidden=hidden, head=head)
