"""A world: the joint law of all V^L sequences, and every conditional it implies, in float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from mdlm_jax.errors import UserError

LARGEST_TABLE = 10**7  # numbers in a table of conditionals: 80 MB


class World(NamedTuple):
    """A law over sequences of L tokens from V: an array with L axes of size V that sums to 1."""

    probability: Float[np.ndarray, "*V"]

    @property
    def vocab(self) -> int:
        return self.probability.shape[0]

    @property
    def length(self) -> int:
        return self.probability.ndim

    @property
    def tokens(self) -> Int[np.ndarray, "S L"]:
        """All S = V^L sequences, in the order of `probability.ravel()`."""
        return np.indices(self.probability.shape).reshape(self.length, -1).T.astype(np.int32)


def random_world(seed: int, vocab: int, length: int, concentration: float = 0.5) -> World:
    """A joint law drawn from a symmetric Dirichlet: no two tokens are independent."""
    probability = np.random.default_rng(seed).dirichlet(np.full(vocab**length, concentration))
    return World(probability.reshape((vocab,) * length))


def entropy(world: World) -> float:
    """H(x) = -sum p log p, in nats per sequence."""
    return float(-xlogy(world.probability, world.probability).sum())


def nats(world: World) -> Float[np.ndarray, "S"]:
    """-log p(x) of every sequence, in the order of `world.tokens`."""
    with np.errstate(divide="ignore"):
        return -np.log(world.probability).ravel()


def conditionals(world: World) -> Float[np.ndarray, "*z L V"]:
    """p(x_i = v | the visible tokens of z other than z_i) for every partly masked z; its first L axes have size V + 1.

    At a masked place this is what a denoiser should say; at a visible one it is the leave-one-out posterior. Uniform
    where the visible tokens have no probability. Raises UserError for a law that is none, or a table too large.
    """
    _check(world)
    mask = world.vocab
    evidence = world.probability  # p(visible tokens), once every axis has its sum as entry number `mask`
    for axis in range(world.length):
        evidence = np.concatenate([evidence, evidence.sum(axis, keepdims=True)], axis)
    laws = []
    for axis in range(world.length):
        given = np.moveaxis(evidence, axis, -1)
        others = given[..., mask:]
        law = np.divide(given[..., :mask], others, out=np.full_like(given[..., :mask], 1 / mask), where=others > 0)
        laws.append(np.broadcast_to(np.expand_dims(law, axis), (*evidence.shape, mask)))
    return np.stack(laws, axis=-2)


def _check(world: World) -> None:
    law, vocab, length = world.probability, world.vocab, world.length
    if len(set(law.shape)) > 1 or law.min() < 0 or abs(law.sum() - 1) > 1e-9:
        raise UserError(
            f"World.probability: shape {law.shape}, minimum {law.min():.3g}, sum {law.sum():.9g}; "
            "accepted: L axes of one size V, no entry below 0, sum 1"
        )
    if (vocab + 1) ** length * length * vocab > LARGEST_TABLE:
        raise UserError(
            f"a world with V={vocab}, L={length} needs a table of (V+1)^L L V > {LARGEST_TABLE:.0e} numbers; "
            "accepted: a smaller V or L"
        )
