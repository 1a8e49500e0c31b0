"""The network of tables that the public samplers were run on, and the noise that they drew."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Model
from mdlm_jax.sampling.guidance import Weight, Without
from mdlm_jax.sampling.network import Network, read

MASK, LENGTH = 19, 16
EPSILON = 1e-5  # where times end there


def ask(arrays: dict, tokens, t=1.0, vocab: int = MASK, guidance: Weight | None = None, prompt=None):
    """logits[B, L, vocab] = POS[position] + E0[token] + E1[token before] + E2[token after]; there is none beyond the
    ends.

    Token 19 is the mask there. With `vocab` 20 it may be drawn as well, and 20 is the mask.
    """
    position, own, before, after = (jnp.asarray(arrays[f"model/{name}"]) for name in ("POS", "E0", "E1", "E2"))

    def hidden(params, view, mask, cache=None):
        x = jnp.minimum(view.tokens, MASK)
        from_left, from_right = before[x[:, :-1]], after[x[:, 1:]]
        nothing = jnp.zeros_like(from_left[:, :1])
        beside = jnp.concatenate([nothing, from_left], axis=1) + jnp.concatenate([from_right, nothing], axis=1)
        return (position[:LENGTH] + own[x] + beside)[..., :vocab].astype(jnp.float64), None

    model = Model(lambda key: (), hidden, lambda _, out: out, None, Architecture(vocab, 1, 1, 1, 1, 1))
    without = () if prompt is None else (Without(prompt, jnp.ones_like(prompt)),)
    network = Network(model, (), tokens, guidance=guidance, without=without)
    return read(network, None, tokens, jnp.full(len(tokens), t))[0]


def draws(arrays: dict, name: str) -> Iterator[np.ndarray]:
    """The numbers that were drawn, call after call."""
    calls = sum(key.startswith(f"noise/{name}/") for key in arrays)
    return iter([arrays[f"noise/{name}/{call:03d}"].astype(np.float64) for call in range(calls)])


def spread(drawn: np.ndarray, where) -> np.ndarray:
    """Numbers that were drawn for some positions, in their positions."""
    whole = np.full((*where.shape, *drawn.shape[1:]), 0.5)
    whole[np.asarray(where)] = drawn
    return whole


def race(probs, u):
    """A draw from a distribution by numbers in [0, 1), as ReMDM, RADD and UniDisc write it."""
    return (probs / (1e-10 - np.log(u + 1e-10))).argmax(axis=-1)


def gumbel(u):
    return -jnp.log(-jnp.log(jnp.asarray(u)))


def with_mask(probs, chance):
    """[.., V + 1]: a mask with that chance, or a token of the distribution."""
    return jnp.concatenate([probs * (1 - chance[..., None]), chance[..., None]], axis=-1)


def at_most(logits, share: float):
    """ReMDM's nucleus: the likeliest tokens that hold `share` at most, where ours are the fewest that hold it."""
    order = jnp.argsort(-logits, axis=-1)
    held = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1)).cumsum(axis=-1)
    inside = (held <= share) | (jnp.arange(logits.shape[-1]) == 0)
    return jnp.where(jnp.take_along_axis(inside, jnp.argsort(order, axis=-1), axis=-1), logits, -jnp.inf)
