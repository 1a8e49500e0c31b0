"""Worlds against sums over their own sequences, written out."""

import itertools

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.exact import World, conditionals, entropy, nats, random_world


def test_sequences_and_probabilities_are_in_one_order():
    world = random_world(0, vocab=3, length=4)
    assert world.tokens.shape == (81, 4) and world.vocab == 3 and world.length == 4
    for tokens, minus_log in zip(world.tokens, nats(world), strict=True):
        assert world.probability[tuple(tokens)] == pytest.approx(np.exp(-minus_log), rel=1e-12)


def test_entropy_of_known_laws():
    assert entropy(World(np.full((4, 4, 4), 1 / 64))) == pytest.approx(3 * np.log(4), rel=1e-14)
    certain = np.zeros((2, 2))
    certain[1, 0] = 1
    assert entropy(World(certain)) == 0
    first, second = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    independent = -first @ np.log(first) - second @ np.log(second)
    assert entropy(World(np.outer(first, second))) == pytest.approx(independent, rel=1e-14)


def test_conditionals_are_bayes_rule():
    """Every entry of the table, by adding up the sequences that agree with the visible tokens."""
    world = random_world(1, vocab=3, length=3)
    table, law, mask = conditionals(world), world.probability.ravel(), 3
    for partial in itertools.product(range(mask + 1), repeat=3):
        for place, token in itertools.product(range(3), range(3)):
            others = [i for i in range(3) if i != place and partial[i] != mask]
            agrees = (world.tokens[:, others] == np.array(partial)[others]).all(axis=1)
            expected = law[agrees & (world.tokens[:, place] == token)].sum() / law[agrees].sum()
            assert table[(*partial, place, token)] == pytest.approx(expected, rel=1e-12)


def test_conditionals_of_the_impossible_are_uniform():
    certain = np.zeros((2, 2))
    certain[1, 0] = 1
    table = conditionals(World(certain))
    np.testing.assert_array_equal(table[2, 2], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(table[0, 2, 1], [0.5, 0.5])


@pytest.mark.parametrize(
    ("probability", "complaint"),
    [
        (np.full((2, 3), 1 / 6), "axes of one size"),
        (np.full((2, 2), 0.3), "sum 1.2"),
        (np.array([[1.5, -0.5], [0, 0]]), "minimum -0.5"),
        (np.full((4,) * 9, 4.0**-9), "smaller V or L"),
    ],
)
def test_what_is_no_world_is_refused(probability, complaint):
    with pytest.raises(UserError, match=complaint):
        conditionals(World(probability))
