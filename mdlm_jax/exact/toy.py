"""A toy distribution: the joint distribution of all V^L sequences, and every conditional it implies, in float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from mdlm_jax.errors import UserError

LARGEST_TABLE = 10**7  # numbers in a table of conditionals: 80 MB


class ToyDistribution(NamedTuple):
    """A distribution over sequences of L tokens from V: an array with L axes of size V that sums to 1."""

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


def random_toy_distribution(seed: int, vocab: int, length: int, concentration: float = 0.5) -> ToyDistribution:
    """A joint distribution drawn from a symmetric Dirichlet: no two tokens are independent."""
    probability = np.random.default_rng(seed).dirichlet(np.full(vocab**length, concentration))
    return ToyDistribution(probability.reshape((vocab,) * length))


def entropy(toy: ToyDistribution) -> float:
    """H(x) = -sum p log p, in nats per sequence."""
    return float(-xlogy(toy.probability, toy.probability).sum())


def nats(toy: ToyDistribution) -> Float[np.ndarray, "S"]:
    """-log p(x) of every sequence, in the order of `toy.tokens`."""
    with np.errstate(divide="ignore"):
        return -np.log(toy.probability).ravel()


def conditionals(toy: ToyDistribution) -> Float[np.ndarray, "*z L V"]:
    """p(x_i = v | the unmasked tokens of z other than z_i) for every partly masked z; its first L axes have size V + 1.

    At a masked position this is the best denoiser; at an unmasked one it is the leave-one-out posterior. It is uniform
    where the unmasked tokens have no probability.

    Raises:
        UserError: The array is no distribution, or the table would be too large.
    """
    _check(toy)
    mask = toy.vocab
    evidence = toy.probability  # p(visible tokens), once every axis has its sum as entry number `mask`
    for axis in range(toy.length):
        evidence = np.concatenate([evidence, evidence.sum(axis, keepdims=True)], axis)
    distributions = []
    for axis in range(toy.length):
        given = np.moveaxis(evidence, axis, -1)
        others = given[..., mask:]
        probs = np.divide(given[..., :mask], others, out=np.full_like(given[..., :mask], 1 / mask), where=others > 0)
        distributions.append(np.broadcast_to(np.expand_dims(probs, axis), (*evidence.shape, mask)))
    return np.stack(distributions, axis=-2)


def _check(toy: ToyDistribution) -> None:
    probs, vocab, length = toy.probability, toy.vocab, toy.length
    if len(set(probs.shape)) > 1 or probs.min() < 0 or abs(probs.sum() - 1) > 1e-9:
        raise UserError(
            f"ToyDistribution.probability: shape {probs.shape}, minimum {probs.min():.3g}, sum {probs.sum():.9g}; "
            "accepted: L axes of one size V, no entry below 0, sum 1"
        )
    if (vocab + 1) ** length * length * vocab > LARGEST_TABLE:
        raise UserError(
            f"a toy distribution with V={vocab}, L={length} needs a table of (V+1)^L L V entries, more than "
            f"{LARGEST_TABLE:.0e}; "
            "accepted: a smaller V or L"
        )
