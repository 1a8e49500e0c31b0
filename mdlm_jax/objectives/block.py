"""Block diffusion: turns any non-causal discrete objective into one inside blocks, autoregressive over blocks."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.noise import bit_reversed
from mdlm_jax.objectives.base import MaskFn, Objective, View, full


def block(
    objective: Objective,
    size: int,
    length: int,
    low: float = 0.0,
    high: float = 1.0,
    shared_level: bool = False,
    start: int | None = None,
) -> Objective:
    """-log p(x) <= sum over blocks b of the objective's bound for x^b, given the clean blocks before it.

    One pass reads [x_t ; x_0], 2 L positions: a noised block attends to itself and to the clean blocks before it. Every
    block has its own noise level, stratified over the row. A clipped range of levels gives no bound (except for masked
    tokens in blocks of one): evaluation draws from all of [0, 1].

    Args:
        objective: Any non-causal objective that reads tokens.
        size: Tokens of a block.
        length: L, tokens of a row.
        low: The lowest u of a noise level in training.
        high: The highest.
        shared_level: All blocks of a row have one noise level (SDAR, arXiv 2510.06303).
        start: A token in front of each half. A position then predicts the token after the one it reads, as in `ar`,
            from [start, x_t ; start, x_0], 2 L + 2 positions (Fast-dLLM v2, arXiv 2509.26328). The first token of a
            block is predicted at a noised position of the block before; in sampling, that block is finished. Documents
            in one row are not separated there.

    Raises:
        UserError: The size does not divide the length, the objective is causal or reads vectors, or the range is empty.

    Reference: BD3-LM, arXiv 2503.09573.
    """
    if size < 1 or length % size:
        raise UserError(f"size={size} (objective.block_size); accepted: a divisor of the row length {length}")
    if objective.mask is not full or objective.inputs or objective.coordinates > 1:
        raise UserError(
            "objective: block diffusion needs one that sees the whole row as tokens, such as masked or sedd"
        )
    if not 0 <= low < high <= 1:
        keys = "objective.block_low, objective.block_high"
        raise UserError(f"low={low}, high={high} ({keys}); accepted: 0 <= low < high <= 1")
    num_blocks, shift = length // size, int(start is not None)

    def view(objective_params, key, example: Example, u) -> View:
        blocks = jax.tree.map(lambda field: field.reshape(num_blocks, size), example)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_blocks))
        levels = u + (jnp.zeros(num_blocks) if shared_level else bit_reversed(num_blocks) / num_blocks)
        levels = low + (high - low) * (levels % 1)
        inner = jax.vmap(objective.view, (None, 0, 0, 0))(objective_params, keys, blocks, levels)

        def joined(field):
            """[blocks, K, size] -> [K, L]."""
            return jnp.moveaxis(jnp.broadcast_to(field, (*field.shape[:2], size)), 0, 1).reshape(-1, length)

        def both(noised, clean, first):
            """The two halves, with `first` in front of each where there is a start."""
            clean = jnp.broadcast_to(clean, noised.shape)
            front = [jnp.broadcast_to(first, (len(noised), 1)).astype(noised.dtype)] * shift
            return jnp.concatenate([*front, noised, *front, clean], axis=1)

        targets, t = joined(inner.targets), joined(inner.t)
        segments = jnp.broadcast_to(example.segments, targets.shape)
        tokens = both(joined(inner.tokens), example.tokens, start or 0)
        positions = jnp.broadcast_to(jnp.tile(jnp.arange(length + shift), 2)[:, None], (*tokens.shape, 1))
        return View(
            tokens=tokens,
            targets=targets,
            weight=joined(inner.weight),
            t=both(t, jnp.zeros_like(t), 0.0),
            positions=positions,
            key_positions=positions,
            segments=both(segments, segments, example.segments[0]),
            constant=inner.constant.sum(axis=0),
        )

    reported = objective.evaluate or objective
    whole = (low, high) == (0.0, 1.0)
    changed = reported is not objective or not whole
    return objective._replace(
        view=view,
        mask=block_mask(size, length, shift),
        bound=objective.bound if whole else "none",
        estimator=f"{objective.estimator}, blocks of {size}",
        evaluate=block(reported, size, length, shared_level=shared_level, start=start) if changed else None,
    )


def block_mask(size: int, length: int, shift: int = 0) -> MaskFn:
    """Which positions of [x_t ; x_0] attend to which.

    A noised position attends to its own block and the clean blocks before; a clean one to clean blocks up to its own.
    That is half of all pairs for one block, a quarter for many. With `shift` 1 each half begins with a start token,
    which is a block of its own.
    """
    half = length + shift

    def mask(query, key):
        query_block, key_block = (query % half - shift) // size, (key % half - shift) // size
        query_clean, key_clean = query >= half, key >= half
        own = ~query_clean & ~key_clean & (query_block == key_block)
        before = ~query_clean & key_clean & (key_block < query_block)
        return own | before | (query_clean & key_clean & (key_block <= query_block))

    return mask
