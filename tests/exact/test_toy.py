"""Worlds against sums over their own sequences, written out."""

import itertools

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.exact import ToyDistribution, conditionals, entropy, nats, random_toy_distribution


def test_tokens_and_nats_share_one_order():
    toy = random_toy_distribution(0, vocab=3, length=4)
    assert toy.tokens.shape == (81, 4) and toy.vocab == 3 and toy.length == 4
    for tokens, minus_log in zip(toy.tokens, nats(toy), strict=True):
        assert toy.probability[tuple(tokens)] == pytest.approx(np.exp(-minus_log), rel=1e-12)


def test_entropy_of_known_distributions():
    assert entropy(ToyDistribution(np.full((4, 4, 4), 1 / 64))) == pytest.approx(3 * np.log(4), rel=1e-14)
    certain = np.zeros((2, 2))
    certain[1, 0] = 1
    assert entropy(ToyDistribution(certain)) == 0
    first, second = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    independent = -first @ np.log(first) - second @ np.log(second)
    assert entropy(ToyDistribution(np.outer(first, second))) == pytest.approx(independent, rel=1e-14)


def test_conditionals_are_bayes_rule():
    """Every entry of the table is a sum over the sequences that agree with the visible tokens."""
    toy = random_toy_distribution(1, vocab=3, length=3)
    table, probs, mask = conditionals(toy), toy.probability.ravel(), 3
    for partial in itertools.product(range(mask + 1), repeat=3):
        for position, token in itertools.product(range(3), range(3)):
            others = [i for i in range(3) if i != position and partial[i] != mask]
            agrees = (toy.tokens[:, others] == np.array(partial)[others]).all(axis=1)
            expected = probs[agrees & (toy.tokens[:, position] == token)].sum() / probs[agrees].sum()
            assert table[(*partial, position, token)] == pytest.approx(expected, rel=1e-12)


def test_impossible_conditionals_are_uniform():
    certain = np.zeros((2, 2))
    certain[1, 0] = 1
    table = conditionals(ToyDistribution(certain))
    np.testing.assert_array_equal(table[2, 2], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(table[0, 2, 1], [0.5, 0.5])


@pytest.mark.parametrize(
    ("probability", "complaint"),
    [
        ([[1 / 6] * 3] * 2, "axes of one size"),
        ([[0.3] * 2] * 2, "sum 1.2"),
        ([[1.5, -0.5], [0.0, 0.0]], "minimum -0.5"),
    ],
)
def test_invalid_distribution_is_refused(probability, complaint):
    with pytest.raises(UserError, match=complaint):
        conditionals(ToyDistribution(np.array(probability)))


def test_large_distribution_is_refused():
    with pytest.raises(UserError, match="smaller V or L"):
        conditionals(ToyDistribution(np.full((4,) * 9, 4.0**-9)))
