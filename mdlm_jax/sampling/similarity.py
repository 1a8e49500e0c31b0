"""How much keys and values change from one step of decoding to the next: why approximate caches work."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.models.feature_cache import Layer
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling.network import reading


def key_value_similarity(
    model: Model, params: Any, frames: Sequence[Int[np.ndarray, "B L"]]
) -> tuple[Float[np.ndarray, "T layers L"], Float[np.ndarray, "T layers L"]]:
    """Cosine between the keys (and the values) of each position in a frame and in the one before, mean over rows.

    `frames` are the T + 1 rows that the network read, as the `watch` of `sample` receives them. Keys are compared with
    their rotation, which is the same in both. Fast-dLLM (arXiv 2505.22618, figure 3).
    """
    batch, length = frames[0].shape
    positions = jnp.broadcast_to(jnp.arange(length)[None, :, None], (batch, length, 1))

    @jax.jit
    def read(tokens):
        share = (tokens == model.architecture.vocab_size).mean(axis=1)
        view = reading(tokens, positions, positions, share)
        _, cache = model.hidden(params, view, full, cache=model.empty_cache(batch, length))
        scanned = isinstance(cache.layers, Layer)
        return (cache.layers if scanned else jax.tree.map(lambda *layers: jnp.stack(layers), *cache.layers))[:2]

    @jax.jit
    def cosine(one: Float[Array, "layers B G L d"], other: Float[Array, "layers B G L d"]):
        one, other = (jnp.moveaxis(field, 2, 3).reshape(*field.shape[:2], length, -1) for field in (one, other))
        lengths = jnp.linalg.norm(one, axis=-1) * jnp.linalg.norm(other, axis=-1)
        return ((one * other).sum(axis=-1) / jnp.maximum(lengths, 1e-12)).mean(axis=1)

    before, found = read(jnp.asarray(frames[0], jnp.int32)), []
    for frame in frames[1:]:
        now = read(jnp.asarray(frame, jnp.int32))
        found.append([np.asarray(cosine(*pair)) for pair in zip(before, now, strict=True)])
        before = now
    keys, values = zip(*found, strict=True)
    return np.stack(keys), np.stack(values)
