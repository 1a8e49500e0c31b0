"""Block diffusion: any of the diffusion objectives inside blocks, autoregressive over blocks (BD3-LM, arXiv
2503.09573).
"""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.noise import spread
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

    One pass over [x_t ; x_0], 2 L positions: a noised block sees itself and the clean blocks before it. Every block has
    its own noise level, stratified over the row; [low, high] is the part of [0, 1] they are drawn from in training. A
    clipped range is no bound (it is one for masked tokens in blocks of one): what is reported draws from all of [0, 1].

    `shared_level`: the blocks of a row have one noise level (SDAR, arXiv 2510.06303). With a token `start` a position
    predicts the token after the one it reads, as in `ar`, from [start, x_t ; start, x_0], 2 L + 2 positions (Fast-dLLM
    v2, arXiv 2509.26328): the first token of a block then comes from a noised position of the block before,
    in sampling from the finished one. Documents in one row are not told apart there.

    Raises UserError where the size does not divide the length, the objective is no diffusion, or the range is none.
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
        levels = u + (jnp.zeros(num_blocks) if shared_level else spread(num_blocks) / num_blocks)
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
    """Who sees whom in [x_t ; x_0]: a noised place its own block and the clean blocks before; a clean one those up to
    its own. Half of the square, and a quarter of it for large numbers of blocks. With `shift` 1 each half has a start
    in front, a block of its own.
    """
    half = length + shift

    def mask(query, key):
        query_block, key_block = (query % half - shift) // size, (key % half - shift) // size
        query_clean, key_clean = query >= half, key >= half
        own = ~query_clean & ~key_clean & (query_block == key_block)
        before = ~query_clean & key_clean & (key_block < query_block)
        return own | before | (query_clean & key_clean & (key_block <= query_block))

    return mask
