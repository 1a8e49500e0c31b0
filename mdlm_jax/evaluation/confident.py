"""The exact likelihood of a decoder that unmasks its most confident position first."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mdlm_jax.data import Example
from mdlm_jax.evaluation.likelihood import guided, without_prompt
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.any_order import mask_tokens
from mdlm_jax.objectives.base import full, loss_mask
from mdlm_jax.training.loss import largest_divisor


def confident_nats(
    model: Model,
    params: Any,
    rows: Example,
    *,
    batch_size: int,
    chunk: int,
    shift: bool = False,
    guidance: float | None = None,
) -> Float[np.ndarray, "R"]:
    """-log p of each row under the decoder that unmasks one position at a time: the one that is surest of its token.

    A position is as sure as its likeliest token is probable, given the tokens unmasked before; ties go to the left. The
    decoder chooses the position before it draws the token, so every row has one order, and the probabilities of all
    rows sum to one. It takes a forward pass for each token that has a loss.

    Args:
        model: A network that reads masks and sees the whole row, without time conditioning.
        params: Parameters of the network.
        rows: Examples [R, L].
        batch_size: Rows computed at once.
        chunk: Positions of each row whose logits are held at once.
        shift: Whether a position predicts the token after the one it reads.
        guidance: Weight of classifier-free guidance by the prompt mask; None: no guidance.

    Reference: MaskGIT, arXiv 2202.04200, which ranks positions by the drawn token; LLaDA, arXiv 2502.09992.
    """
    count = len(rows.tokens)
    batch_nats, batch_size = _batch_nats(model, chunk, shift, guidance), min(batch_size, count)
    found = np.zeros(count)
    for start in range(0, count, batch_size):
        # the last batch repeats rows to keep its shape
        index = np.minimum(np.arange(start, start + batch_size), count - 1)
        each = batch_nats(params, jax.tree.map(lambda field: field[index], rows))  # noqa: B023
        found[index] = np.asarray(each, np.float64).sum(axis=1)
    return found


@lru_cache(maxsize=4)  # one program for all batches
def _batch_nats(model: Model, chunk: int, shift: bool, guidance: float | None):
    mask_id = model.architecture.vocab_size

    @jax.jit
    def batch_nats(params, rows):
        positions = jnp.arange(rows.tokens.shape[1])

        def view_of(rows, masked):
            view = jax.vmap(lambda row, hidden: mask_tokens(row, hidden, 1.0, mask_id, 0.0))(rows, masked)
            return jax.tree.map(lambda field: field[:, 0], view)

        def step(_, carry):
            masked, nats = carry
            network = model
            if guidance is not None:
                network = guided(model, view_of(without_prompt(rows, mask_id), masked), guidance)
            hidden, _ = network.hidden(params, view_of(rows, masked), full)
            sure, of_token = _read(model, params, jnp.roll(hidden, 1, axis=1) if shift else hidden, rows.tokens, chunk)
            first = jnp.where(masked, sure, -jnp.inf).argmax(axis=1)
            chosen = masked & (positions == first[:, None])
            return masked & ~chosen, jnp.where(chosen, of_token, nats)

        masked = loss_mask(rows)
        start = masked, jnp.zeros(masked.shape)
        return jax.lax.fori_loop(0, masked.sum(axis=1).max(), step, start)[1]

    return batch_nats


def _read(model: Model, params: Any, hidden, tokens, chunk: int):
    """(the largest log probability at each position, -log p of its token), the logits of a chunk at a time."""
    batch, length = tokens.shape
    size = largest_divisor(length, chunk)

    def chunks(field):
        return jnp.moveaxis(field.reshape(batch, length // size, size, *field.shape[2:]), 1, 0)

    def of_chunk(part):
        hidden, tokens = part
        logs = jax.nn.log_softmax(model.head(params, hidden))
        return logs.max(axis=-1), -jnp.take_along_axis(logs, tokens[..., None], axis=-1)[..., 0]

    found = jax.lax.map(of_chunk, (chunks(hidden), chunks(tokens)))
    return tuple(jnp.moveaxis(field, 0, 1).reshape(batch, length) for field in found)
