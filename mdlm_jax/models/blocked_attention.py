"""Attention a block of queries at a time, whose backward pass forms the scores again instead of keeping them.

Exact, like FlashAttention (arXiv 2205.14135) with whole rows of keys: no array [N, M] outlives its block. The backward
pass is written out because the products that autodiff makes transpose the scores, which on a CPU costs as much as the
products themselves.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.objectives.base import MaskFn, full

BLOCK = 128  # queries at once
SPANS = 8  # each touches the keys that some of its queries may see: 9/16 of all pairs where the mask is causal


class Span(NamedTuple):
    """Consecutive queries that run in one loop, over the same keys."""

    start: int
    stop: int
    block: int
    keys: tuple[tuple[int, int], ...]  # ranges (start, stop)


def blocked_attention(q, k, v, mask: MaskFn, seen):
    """q [B N G h d], k and v [B M G d], seen bool [#B N M] or None -> [B N G h d], as `attend` says."""
    # a cache has more keys than there are queries, and which are old is not known before it runs
    spans = spans_of(q.shape[1], k.shape[1], mask if q.shape[1] == k.shape[1] else full)
    # [G, h] before places: products over leading axes need no copies
    out = _attention(spans, jnp.moveaxis(q, 1, 3), jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2), seen)
    return jnp.moveaxis(out, 3, 1)


def spans_of(num_queries: int, num_keys: int, mask: MaskFn) -> tuple[Span, ...]:
    """All queries, in up to SPANS spans with the keys that each may see, or one with all where the mask is full."""
    whole_blocks = num_queries // BLOCK
    parts = 1 if mask is full else SPANS
    cuts = sorted({part * whole_blocks // parts * BLOCK for part in range(parts + 1)} | {num_queries})
    return tuple(
        Span(start, stop, min(BLOCK, stop - start), _seen_ranges(mask, start, stop, num_keys))
        for start, stop in zip(cuts, cuts[1:], strict=False)
    )


def _seen_ranges(mask: MaskFn, start: int, stop: int, num_keys: int) -> tuple[tuple[int, int], ...]:
    """The keys that some query from start to stop may see, as ranges of whole tiles."""
    if mask is full:
        return ((0, num_keys),)
    seen = np.broadcast_to(mask(np.arange(start, stop)[:, None], np.arange(num_keys)), (stop - start, num_keys)).any(0)
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
    """The places of `x` in these ranges, side by side."""
    return jnp.concatenate([jax.lax.slice_in_dim(x, start, stop, axis=axis) for start, stop in ranges], axis=axis)


def _put_back(x, part, ranges):
    """`x` with `part`, its last axis in these ranges, put where `_pick` took it."""
    offset = 0
    for start, stop in ranges:
        x = x.at[..., start:stop].set(part[..., offset : offset + stop - start])
        offset += stop - start
    return x


def _cut(x, span: Span, axis: int):
    """The queries of a span as [blocks ...], to loop over; `x` has them on `axis`."""
    x = jax.lax.slice_in_dim(x, span.start, span.stop, axis=axis)
    return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, span.block, *x.shape[axis + 1 :]), axis, 0)


def _joined(parts, axis: int):
    """The inverse of `_cut`, over all spans."""

    def flat(blocks):
        blocks = jnp.moveaxis(blocks, 0, axis)
        return blocks.reshape(*blocks.shape[:axis], -1, *blocks.shape[axis + 2 :])

    return jnp.concatenate([flat(blocks) for blocks in parts], axis=axis)


def _dot(x, y, x_axis: int, y_axis: int):
    """Contracts an axis of each, [B G] leading both."""
    dimensions = (((x_axis,), (y_axis,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)


def _rows(x):
    """[B G h n d] -> [B G (h n) d]: the heads of a group share its keys."""
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _scores(q, k, seen):
    """[B G h n m] of a block of scaled queries."""
    scores = _dot(_rows(q), k, 3, 3).reshape(*q.shape[:-1], -1)
    return scores if seen is None else jnp.where(seen[:, None, None], scores, jnp.finfo(jnp.float32).min)


def _blocks(spans, seen, *fields):
    """For each span: itself, and its blocks of what the queries may see and of `fields` [B G h N _]."""
    for span in spans:
        yield (
            span,
            (
                None if seen is None else _cut(pick(seen, span.keys, axis=2), span, axis=1),
                *(_cut(field, span, axis=3) for field in fields),
            ),
        )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(spans, q, k, v, seen):
    return _forward(spans, q, k, v, seen)[0]


def _forward(spans, q, k, v, seen):
    parts = []
    for span, blocks in _blocks(spans, seen, q * q.shape[-1] ** -0.5):
        keys, values = pick(k, span.keys, axis=2), pick(v, span.keys, axis=2)

        def block(inputs, keys=keys, values=values):
            seen, q = inputs
            scores = _scores(q, keys, seen)
            largest = scores.max(axis=-1, keepdims=True)
            weights = jnp.exp(scores - largest)
            total = weights.sum(axis=-1, keepdims=True)
            mixed = _dot(_rows(weights).astype(values.dtype), values, 3, 2).reshape(q.shape)
            return (mixed / total).astype(q.dtype), largest + jnp.log(total)

        parts.append(jax.lax.map(block, blocks))
    out, normalizer = (_joined(field, axis=3) for field in zip(*parts, strict=True))
    return out, (q, k, v, seen, out, normalizer)


def _backward(spans, kept, d_out):
    q, k, v, seen, out, normalizer = kept
    scale = q.shape[-1] ** -0.5
    # the sum over keys of a weight times its gradient
    shift = (out.astype(jnp.float32) * d_out).sum(axis=-1, keepdims=True)
    # [d, m]: of the two factors of these products the narrow one is then transposed
    d_keys = d_values = jnp.zeros((*k.shape[:2], k.shape[3], k.shape[2]))
    parts = []
    for span, blocks in _blocks(spans, seen, q * scale, d_out, normalizer, shift):
        keys, values = pick(k, span.keys, axis=2), pick(v, span.keys, axis=2)

        def block(sums, inputs, keys=keys, values=values):
            seen, q, d_out, normalizer, shift = inputs
            weights = jnp.exp(_scores(q, keys, seen) - normalizer)
            d_weights = _dot(_rows(d_out), values, 3, 3).reshape(weights.shape)
            d_scores = _rows(weights * (d_weights - shift)).astype(q.dtype)
            d_keys, d_values = sums
            d_keys += _dot(_rows(q), d_scores, 2, 2)
            d_values += _dot(_rows(d_out), _rows(weights).astype(q.dtype), 2, 2)
            return (d_keys, d_values), _dot(d_scores, keys, 3, 2).reshape(q.shape).astype(q.dtype)

        of_span = pick(d_keys, span.keys, axis=3), pick(d_values, span.keys, axis=3)
        of_span, d_queries = jax.lax.scan(block, of_span, blocks)
        d_keys, d_values = (_put_back(*pair, span.keys) for pair in zip((d_keys, d_values), of_span, strict=True))
        parts.append(d_queries)
    d_keys, d_values = (jnp.swapaxes(x, 2, 3).astype(k.dtype) for x in (d_keys, d_values))
    return _joined(parts, axis=3) * scale, d_keys, d_values, None


_attention.defvjp(_forward, _backward)
