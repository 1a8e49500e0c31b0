"""Exact attention for one block of queries at a time. The backward pass recomputes the scores instead of storing them.

This is FlashAttention (arXiv 2205.14135) with whole rows of keys: each array of scores is freed with its block. The
backward pass is written out because autodiff would transpose the scores, which on a CPU costs as much as the products
themselves. Here each product transposes its narrow operand instead, once. Groups of heads run one after another, so
that each product has many rows.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.objectives.base import MaskFn, full

BLOCK = 128  # the smallest number of queries computed at once
ROWS = 1024  # the target for rows of one product: batch x heads of a group x queries
SPANS = 8  # a span reads the keys that any of its queries may attend to: 9/16 of all pairs where the mask is causal


class Span(NamedTuple):
    """Consecutive queries that run in one loop, over the same keys."""

    start: int
    stop: int
    block: int
    keys: tuple[tuple[int, int], ...]  # ranges (start, stop)


def blocked_attention(q, k, v, mask: MaskFn, seen):
    """The `attend` backend that computes one block of queries at a time.

    Args:
        q: Queries, [B N G h d]: G groups of h heads.
        k: Keys, [B M G d].
        v: Values, [B M G d].
        mask: The objective's mask function; it decides at trace time which keys a span reads.
        seen: The pairs that may attend, bool[#B N M]; None for all.

    Returns:
        [B N G h d].
    """
    # with a cache there are more keys than queries, and which positions it holds is not known at trace time
    # at most a quarter of the queries at once: memory must stay that of a few blocks
    at_once = min(ROWS // (q.shape[0] * q.shape[3]), q.shape[1] // 4)
    spans = spans_of(q.shape[1], k.shape[1], mask if q.shape[1] == k.shape[1] else full, at_once)
    # groups lead and are looped over; [B h] before positions: products over leading axes need no copies
    out = _attention(spans, jnp.moveaxis(q, (2, 3), (0, 2)), jnp.moveaxis(k, 2, 0), jnp.moveaxis(v, 2, 0), seen)
    return jnp.moveaxis(out, (0, 2), (2, 3))


def spans_of(num_queries: int, num_keys: int, mask: MaskFn, at_once: int = BLOCK) -> tuple[Span, ...]:
    """Divides the queries into spans.

    Args:
        num_queries: Number of queries N.
        num_keys: Number of keys M.
        mask: The mask function, called on position numbers.
        at_once: The most queries that a block may have, if above BLOCK.

    Returns:
        Up to SPANS spans, each with the keys that its queries may attend to. A full mask gives one span.
    """
    whole_blocks = num_queries // BLOCK
    parts = 1 if mask is full else SPANS
    cuts = sorted({part * whole_blocks // parts * BLOCK for part in range(parts + 1)} | {num_queries})
    return tuple(
        Span(start, stop, _block(stop - start, at_once), _seen_ranges(mask, start, stop, num_keys))
        for start, stop in zip(cuts, cuts[1:], strict=False)
    )


def _block(length: int, at_once: int) -> int:
    """The largest block size, a multiple of BLOCK, that divides the span into equal blocks of at most `at_once`."""
    if length < BLOCK:
        return length
    blocks = length // BLOCK
    return BLOCK * max(
        count for count in range(1, blocks + 1) if blocks % count == 0 and count * BLOCK <= max(at_once, BLOCK)
    )


def _seen_ranges(mask: MaskFn, start: int, stop: int, num_keys: int) -> tuple[tuple[int, int], ...]:
    """The keys that any query from start to stop may attend to, as ranges of whole tiles."""
    if mask is full:
        return ((0, num_keys),)
    pairs = np.broadcast_to(mask(np.arange(start, stop)[:, None], np.arange(num_keys)), (stop - start, num_keys))
    seen = np.asarray(pairs.any(axis=0))
    ranges = []
    for tile in range(0, num_keys, BLOCK):
        end = min(tile + BLOCK, num_keys)
        if not seen[tile:end].any():
            continue
        if ranges and ranges[-1][1] == tile:
            tile = ranges.pop()[0]
        ranges.append((tile, end))
    return tuple(ranges)


def pick(x, ranges: tuple[tuple[int, int], ...], axis: int):
    """The positions of `x` in these ranges, concatenated along `axis`."""
    return jnp.concatenate([jax.lax.slice_in_dim(x, start, stop, axis=axis) for start, stop in ranges], axis=axis)


def _put_back(x, part, ranges):
    """The inverse of `pick` on the last axis: `x` with `part` written into these ranges."""
    offset = 0
    for start, stop in ranges:
        x = x.at[..., start:stop].set(part[..., offset : offset + stop - start])
        offset += stop - start
    return x


def _cut(x, span: Span):
    """The queries of a span, from [B h N _] to [blocks B (h n) _]: the heads of a group share keys, so they share rows.

    The loop runs over the blocks.
    """
    batch, heads, _, width = x.shape
    x = jax.lax.slice_in_dim(x, span.start, span.stop, axis=2).reshape(batch, heads, -1, span.block, width)
    return jnp.moveaxis(x, 2, 0).reshape(-1, batch, heads * span.block, width)


def _joined(parts, heads: int):
    """The inverse of `_cut`, over all spans."""

    def flat(blocks):
        number, batch, _, width = blocks.shape
        blocks = jnp.moveaxis(blocks.reshape(number, batch, heads, -1, width), 0, 2)
        return blocks.reshape(batch, heads, -1, width)

    return jnp.concatenate([flat(blocks) for blocks in parts], axis=2)


def _cut_pairs(seen, span: Span):
    """Which keys of a span each of its queries may attend to, as [blocks #B n m]."""
    if seen is None:
        return None
    seen = pick(seen[:, span.start : span.stop], span.keys, axis=2)
    return jnp.moveaxis(seen.reshape(len(seen), -1, span.block, seen.shape[2]), 1, 0)


def _dot(x, y):
    """[B i j] times [B j k], summed in float32."""
    return jnp.matmul(x, y, preferred_element_type=jnp.float32)


def _turned(x):
    return jnp.swapaxes(x, -1, -2)


def _scores(q, turned_keys, seen):
    """The scores of a block of scaled queries, [B (h n) m]."""
    scores = _dot(q, turned_keys)
    if seen is None:
        return scores
    apart = scores.reshape(len(scores), -1, *seen.shape[1:])
    return jnp.where(seen[:, None], apart, jnp.finfo(jnp.float32).min).reshape(scores.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(spans, q, k, v, seen):
    """q [G B h N d], k and v [G B M d]."""
    return _forward(spans, q, k, v, seen)[0]


def _forward(spans, q, k, v, seen):
    out, normalizer = jax.lax.map(lambda group: _forward_of_group(spans, *group, seen), (q, k, v))
    return out, (q, k, v, seen, out, normalizer)


def _forward_of_group(spans, q, k, v, seen):
    parts = []
    for span in spans:
        keys, values = _turned(pick(k, span.keys, axis=1)), pick(v, span.keys, axis=1)

        def block(inputs, keys=keys, values=values):
            seen, q = inputs
            scores = _scores(q, keys, seen)
            largest = scores.max(axis=-1, keepdims=True)
            weights = jnp.exp(scores - largest)
            total = weights.sum(axis=-1, keepdims=True)
            mixed = _dot(weights.astype(values.dtype), values)
            return (mixed / total).astype(q.dtype), largest + jnp.log(total)

        parts.append(jax.lax.map(block, (_cut_pairs(seen, span), _cut(q * q.shape[-1] ** -0.5, span))))
    return tuple(_joined(field, q.shape[1]) for field in zip(*parts, strict=True))


def _backward(spans, kept, d_out):
    q, k, v, seen, out, normalizer = kept
    # the sum over keys of a weight times its gradient
    shift = (out.astype(jnp.float32) * d_out).sum(axis=-1, keepdims=True)
    fields = q, k, v, d_out, normalizer, shift
    return (*jax.lax.map(lambda group: _backward_of_group(spans, *group, seen), fields), None)


def _backward_of_group(spans, q, k, v, d_out, normalizer, shift, seen):
    scale = q.shape[-1] ** -0.5
    d_keys = d_values = jnp.zeros((k.shape[0], k.shape[2], k.shape[1]))  # [B d M], transposed as in the sums
    parts = []
    for span in spans:
        keys, values = (pick(x, span.keys, axis=1) for x in (k, v))
        turned_keys, turned_values = _turned(keys), _turned(values)

        def block(sums, inputs, keys=keys, turned_keys=turned_keys, turned_values=turned_values):
            seen, q, d_out, normalizer, shift, turned_q, turned_d_out = inputs
            weights = jnp.exp(_scores(q, turned_keys, seen) - normalizer)
            d_weights = _dot(d_out, turned_values)
            d_scores = (weights * (d_weights - shift)).astype(q.dtype)
            d_keys, d_values = sums
            d_keys += _dot(turned_q, d_scores)
            d_values += _dot(turned_d_out, weights.astype(q.dtype))
            return (d_keys, d_values), _dot(d_scores, keys).astype(q.dtype)

        of_span = pick(d_keys, span.keys, axis=2), pick(d_values, span.keys, axis=2)
        q_blocks, *others = (_cut(field, span) for field in (q * scale, d_out, normalizer, shift))
        blocks = _cut_pairs(seen, span), q_blocks, *others, _turned(q_blocks), _turned(others[0])
        of_span, d_queries = jax.lax.scan(block, of_span, blocks)
        d_keys, d_values = (_put_back(*pair, span.keys) for pair in zip((d_keys, d_values), of_span, strict=True))
        parts.append(d_queries)
    d_keys, d_values = (_turned(x).astype(k.dtype) for x in (d_keys, d_values))
    return _joined(parts, q.shape[1]) * scale, d_keys, d_values


_attention.defvjp(_forward, _backward)
