"""Weights of masked tokens by the visible tokens around them: Dream's token-level rescheduling of the noise (CART)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def context_weights(visible: Bool[Array, "L"], segments: Int[Array, "L"], rate: float) -> Float[Array, "L"]:
    """Half the sum of rate (1 - rate)^(d - 1) over the visible tokens of the same document, at distances d.

    A token inside a long visible text has the weight 1, one far from any visible token 0.

    Args:
        visible: Which tokens are not masked.
        segments: The document of each token; documents lie one after the other.
        rate: Probability of the geometric distribution, in (0, 1]: the higher, the nearer is the context that counts.

    Reference: Dream, arXiv 2508.15487, section 3.2.
    """

    def from_left(visible, segments):
        same = (segments == jnp.roll(segments, 1)).at[0].set(False)
        kept = jnp.where(same, 1 - rate, 0.0)
        added = jnp.where(same & jnp.roll(visible, 1), rate, 0.0)
        # the sum of a position is `kept` times that of the position before it, and `added`
        return jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (kept, added))[1]

    return (from_left(visible, segments) + from_left(visible[::-1], segments[::-1])[::-1]) / 2
