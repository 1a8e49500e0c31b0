"""A codebook whose codes follow the mean of the vectors nearest to them, by a moving average.

Reference: VQ-VAE, arXiv 1711.00937, appendix A.1. With decay 0 an update is that of k-means.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

LEAST_COUNT = 1e-12  # a code that no vector ever chose keeps its place


class Codebook(NamedTuple):
    """The moving averages of V codes."""

    codes: Float[Array, "V d"]
    counts: Float[Array, "V"]  # vectors that chose each code
    sums: Float[Array, "V d"]  # their sum


def codebook_of(key: PRNGKeyArray, vectors: Float[Array, "n d"], size: int) -> Codebook:
    """A codebook whose codes are `size` of the vectors, each drawn at most once."""
    codes = vectors[jax.random.choice(key, len(vectors), (size,), replace=False)]
    return Codebook(codes, jnp.ones(size), codes)


def nearest(codes: Float[Array, "V d"], vectors: Float[Array, "n d"]) -> Int[Array, "n"]:
    """The number of the code nearest to each vector; of equally near ones the first."""
    return jnp.argmin(jnp.sum(codes**2, axis=1) - 2 * vectors @ codes.T, axis=1)


def straight_through(vectors: Float[Array, "*n"], quantized: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The quantized vectors, with the gradient of the identity."""
    return vectors + jax.lax.stop_gradient(quantized - vectors)


def follow(codebook: Codebook, vectors: Float[Array, "n d"], chosen: Int[Array, "n"], decay: float) -> Codebook:
    """Moves each code towards the mean of the vectors that chose it.

    Args:
        codebook: The averages so far.
        vectors: The vectors of a batch.
        chosen: The code of each.
        decay: The share of the averages that is kept; 0 gives each code that was chosen the mean of its vectors.
    """
    size = len(codebook.codes)
    counts = decay * codebook.counts + (1 - decay) * jnp.zeros(size).at[chosen].add(1.0)
    sums = decay * codebook.sums + (1 - decay) * jnp.zeros_like(codebook.sums).at[chosen].add(vectors)
    codes = jnp.where(counts[:, None] > LEAST_COUNT, sums / jnp.maximum(counts, LEAST_COUNT)[:, None], codebook.codes)
    return Codebook(codes, counts, sums)


def restart_dead(key: PRNGKeyArray, codebook: Codebook, vectors: Float[Array, "n d"], least: float) -> Codebook:
    """Replaces each code with a count below `least` by a vector of the batch, with a count of one."""
    drawn = vectors[jax.random.choice(key, len(vectors), (len(codebook.codes),))]
    dead = codebook.counts < least
    codes, sums = (jnp.where(dead[:, None], drawn, old) for old in (codebook.codes, codebook.sums))
    return Codebook(codes, jnp.where(dead, 1.0, codebook.counts), sums)
