"""The Markov source against its own matrices, and those against closed forms."""

import numpy as np
import pytest
from scipy.stats import chi2

from mdlm_jax.data.markov import entropy_rate, markov_chain, open_markov, parse_markov, sample_rows
from mdlm_jax.errors import UserError


def test_two_states_in_closed_form():
    """Leaving probabilities a and b: pi = (b, a) / (a + b), and the rate is the pi-mean of the binary entropies."""
    pi, transitions = markov_chain(2, 1.0, seed=3)
    a, b = transitions[0, 1], transitions[1, 0]
    np.testing.assert_allclose(pi, np.array([b, a]) / (a + b), rtol=1e-12)
    binary = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (a, b)]
    np.testing.assert_allclose(entropy_rate(pi, transitions), pi @ binary, rtol=1e-12)


@pytest.mark.parametrize(("vocab", "concentration"), [(16, 0.3), (257, 0.05), (3, 10.0)])
def test_chain_is_stationary(vocab, concentration):
    pi, transitions = markov_chain(vocab, concentration, seed=0)
    np.testing.assert_allclose(transitions.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(pi @ transitions, pi, atol=1e-12)
    assert pi.min() >= 0 and 0 < entropy_rate(pi, transitions) < np.log(vocab)


def test_entropy_rate_of_known_chains():
    uniform = np.full((4, 4), 0.25)
    assert entropy_rate(uniform[0], uniform) == pytest.approx(np.log(4), rel=1e-12)
    cycle = np.roll(np.eye(4), 1, axis=1)
    assert entropy_rate(uniform[0], cycle) == 0


def test_rows_follow_the_chain():
    """Pearson's test of first tokens against pi, and of transitions at the last position against pi_i P_ij."""
    pi, transitions = markov_chain(4, 1.0, seed=1)
    rows = sample_rows(pi, transitions, (0,), np.arange(20_000), 9)
    first = np.bincount(rows[:, 0], minlength=4)
    assert chi2.sf(((first - 20_000 * pi) ** 2 / (20_000 * pi)).sum(), 3) > 1e-3
    pairs = np.bincount(rows[:, 7] * 4 + rows[:, 8], minlength=16)
    expected = 20_000 * (pi[:, None] * transitions).ravel()
    assert chi2.sf(((pairs - expected) ** 2 / expected).sum(), 15) > 1e-3


def test_rows_depend_on_their_index_alone():
    chain = markov_chain(8, 0.5, seed=0)
    rows = sample_rows(*chain, (0,), np.arange(50), 12)
    np.testing.assert_array_equal(sample_rows(*chain, (0,), np.array([41, 3]), 12), rows[[41, 3]])
    np.testing.assert_array_equal(sample_rows(*chain, (0,), np.arange(50), 5), rows[:, :5])
    assert (sample_rows(*chain, (1,), np.arange(50), 12) != rows).mean() > 0.5


def test_held_out_rows_come_from_the_same_chain():
    splits = open_markov("vocab=5, concentration=1, seed=2", 32)
    some = np.arange(2000)
    train, validation = splits.train.read(some), splits.validation.read(some)
    assert (train != validation).any(axis=1).all()
    pi, _ = markov_chain(5, 1.0, 2)
    np.testing.assert_allclose(np.bincount(validation.ravel(), minlength=5) / validation.size, pi, atol=0.02)
    assert splits.tokenizer.vocab_size == 5


def test_description():
    assert parse_markov("vocab=16,concentration=0.3") == (16, 0.3, 0)
    assert parse_markov("concentration=1, seed=7, vocab=3") == (3, 1.0, 7)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "vocab=16",
        "vocab=16,concentration=x",
        "vocab=1,concentration=1",
        "vocab=4,concentration=0",
        "vocab=4,concentration=1,order=2",
    ],
)
def test_bad_descriptions_are_refused_with_an_example(path):
    with pytest.raises(UserError, match="vocab=16,concentration=0.3"):
        parse_markov(path)
