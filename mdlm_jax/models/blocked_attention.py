"""Attention a block of queries at a time, whose backward pass forms the scores again instead of keeping them.

Exact, like FlashAttention (arXiv 2205.14135) with whole rows of keys: no array [N, M] outlives its block. The backward
pass is written out because the products that autodiff makes transpose the scores, which on a CPU costs as much as the
products themselves.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mdlm_jax.objectives.base import MaskFn, causal

BLOCK = 128  # queries at once
CAUSAL_SPANS = 4  # each touches the keys up to its own end: 5/8 of all pairs


class Span(NamedTuple):
    """Consecutive queries that run in one loop, over the same keys."""

    start: int
    stop: int
    block: int
    num_keys: int


def blocked_attention(q, k, v, mask: MaskFn, seen):
    """q [B N G h d], k and v [B M G d], seen bool [#B N M] or None -> [B N G h d], as `attend` says."""
    spans = _spans(q.shape[1], k.shape[1], mask is causal and q.shape[1] == k.shape[1])
    # [G, h] before places: products over leading axes need no copies
    out = _attention(spans, jnp.moveaxis(q, 1, 3), jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2), seen)
    return jnp.moveaxis(out, 3, 1)


def _spans(num_queries: int, num_keys: int, is_causal: bool) -> tuple[Span, ...]:
    whole_blocks = num_queries // BLOCK
    parts = CAUSAL_SPANS if is_causal else 1
    cuts = sorted({part * whole_blocks // parts * BLOCK for part in range(parts + 1)} | {num_queries})
    return tuple(
        Span(start, stop, min(BLOCK, stop - start), stop if is_causal else num_keys)
        for start, stop in zip(cuts, cuts[1:], strict=False)
    )


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
                None if seen is None else _cut(seen[:, :, : span.num_keys], span, axis=1),
                *(_cut(field, span, axis=3) for field in fields),
            ),
        )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(spans, q, k, v, seen):
    return _forward(spans, q, k, v, seen)[0]


def _forward(spans, q, k, v, seen):
    parts = []
    for span, blocks in _blocks(spans, seen, q * q.shape[-1] ** -0.5):
        keys, values = k[:, :, : span.num_keys], v[:, :, : span.num_keys]

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
        keys, values = k[:, :, : span.num_keys], v[:, :, : span.num_keys]

        def block(sums, inputs, keys=keys, values=values):
            seen, q, d_out, normalizer, shift = inputs
            weights = jnp.exp(_scores(q, keys, seen) - normalizer)
            d_weights = _dot(_rows(d_out), values, 3, 3).reshape(weights.shape)
            d_scores = _rows(weights * (d_weights - shift)).astype(q.dtype)
            d_keys, d_values = sums
            d_keys += _dot(_rows(q), d_scores, 2, 2)
            d_values += _dot(_rows(d_out), _rows(weights).astype(q.dtype), 2, 2)
            return (d_keys, d_values), _dot(d_scores, keys, 3, 2).reshape(q.shape).astype(q.dtype)

        of_span = d_keys[..., : span.num_keys], d_values[..., : span.num_keys]
        of_span, d_queries = jax.lax.scan(block, of_span, blocks)
        d_keys = d_keys.at[..., : span.num_keys].set(of_span[0])
        d_values = d_values.at[..., : span.num_keys].set(of_span[1])
        parts.append(d_queries)
    d_keys, d_values = (jnp.swapaxes(x, 2, 3).astype(k.dtype) for x in (d_keys, d_values))
    return _joined(parts, axis=3) * scale, d_keys, d_values, None


_attention.defvjp(_forward, _backward)
