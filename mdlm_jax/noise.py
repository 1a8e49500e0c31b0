"""Randomness belongs to the example, never to the device: one loss curve for any number of devices and hosts."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def bit_reversed(count: int) -> np.ndarray:
    """A permutation of 0 .. count - 1 such that every contiguous run covers the range: ranks of the reversed bits."""
    bits = max(count - 1, 1).bit_length()
    reversed_bits = [int(f"{position:0{bits}b}"[::-1], 2) for position in range(count)]
    return np.argsort(np.argsort(reversed_bits)).astype(np.int32)


def noise_of(
    key_data: Array, step: Int[Array, ""], index: Int[Array, "B"], batch_size: int
) -> tuple[Array, Float[Array, "B"]]:
    """A key for each example of a step, and its u in [0, 1): stratified over the global batch, u_0 + rank / B mod 1.

    `index` is the position in the global batch, so a device or a microbatch that holds only some rows draws the same.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(key_data), step)
    shift = jax.random.uniform(jax.random.fold_in(key, batch_size))
    u = (shift + jnp.asarray(bit_reversed(batch_size))[index] / batch_size) % 1.0
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index), u
