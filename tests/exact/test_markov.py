"""The Markov chain at any length against enumeration of short ones, and against its entropy rate."""

import itertools

import numpy as np
import pytest

from mdlm_jax.data.markov import entropy_rate, markov_chain
from mdlm_jax.exact import (
    ToyDistribution,
    conditionals,
    entropy,
    gauss_legendre,
    markov_conditionals,
    markov_entropy,
    markov_masked_nats,
    masked_count_distribution,
)

CHAINS = [(3, 0.5, 0), (2, 1.0, 1)]  # arguments of markov_chain


@pytest.fixture
def chain(request):
    return markov_chain(*request.param)


def world_of(stationary, transitions, length):
    probability = stationary
    for _ in range(length - 1):
        probability = probability[..., None] * transitions
    return ToyDistribution(probability)


def bound(chain, length):
    shares, weights = gauss_legendre(length // 2 + 1)
    return sum(
        weight / share * markov_masked_nats(*chain, length, float(share))
        for share, weight in zip(shares, weights, strict=True)
    )


@pytest.mark.parametrize("chain", CHAINS, indirect=True)
def test_conditionals_need_only_the_nearest_tokens(chain):
    """Against Bayes' rule over all sequences, for every partly masked one. Visible positions are leave-one-out."""
    length, mask = 5, len(chain[0])
    table = conditionals(world_of(*chain, length))
    for partial in itertools.product(range(mask + 1), repeat=length):
        np.testing.assert_allclose(markov_conditionals(*chain, np.array(partial)), table[partial], rtol=1e-12)


@pytest.mark.parametrize("chain", CHAINS, indirect=True)
@pytest.mark.parametrize("length", [1, 2, 6])
def test_entropy_matches_enumeration(chain, length):
    assert markov_entropy(*chain, length) == pytest.approx(entropy(world_of(*chain, length)), rel=1e-12)


@pytest.mark.parametrize("noised", [0.1, 0.5, 1.0])
def test_optimal_nats_match_enumeration(noised):
    length, chain = 6, markov_chain(*CHAINS[0])
    toy, mask = world_of(*chain, length), 3
    table = conditionals(toy)
    probs = masked_count_distribution(np.array([noised]), length)[0]
    expected = 0.0
    for number, chance in enumerate(probs):
        hidden = (number >> np.arange(length)) & 1 == 1
        seen = table[tuple(np.where(hidden, mask, toy.tokens).T)]
        truth = np.take_along_axis(seen, toy.tokens[..., None], axis=2)[..., 0]
        expected -= chance * toy.probability.ravel() @ (np.log(truth) * hidden).sum(axis=1)
    assert markov_masked_nats(*chain, length, noised) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("chain", [*CHAINS, (16, 0.3, 2)], indirect=True)
@pytest.mark.parametrize("length", [1, 2, 6, 7, 64])
def test_optimal_bound_is_the_entropy(chain, length):
    assert bound(chain, length) == pytest.approx(markov_entropy(*chain, length), rel=1e-10)


def test_entropy_rate_is_an_integral_over_gaps():
    """A token in the middle of an endless chain has gaps d1, d2 with probability t^(d1+d2-2) (1-t)^2 at mask rate t.

    The integral over t is 2 (n-2)! / n! (n-1)^-1 .. = 2 / ((n-1) n (n+1)) with n = d1 + d2, cut off at 400.
    """
    chain, most = markov_chain(4, 0.5, 3), 400
    far = markov_entropy(*chain, 1)
    step, power = [0.0], chain[1]
    for _ in range(2 * most):
        step.append(entropy_rate(chain[0], power))
        power = power @ chain[1]
    step = np.array(step)
    d1, d2 = np.meshgrid(np.arange(1, most), np.arange(1, most), indexing="ij")
    n = d1 + d2
    chance = 2 / ((n - 1.0) * n * (n + 1))
    total = (chance * (step[d1] + step[d2] - step[n])).sum() + (1 - chance.sum()) * far
    assert total == pytest.approx(entropy_rate(*chain), abs=1e-3 * far)


def test_nats_at_both_ends_of_the_mask_rate():
    """At rate 1 each token costs its marginal entropy, and at rate 0 nothing is masked."""
    chain, length = markov_chain(*CHAINS[0]), 10
    assert markov_masked_nats(*chain, length, 1.0) == pytest.approx(length * markov_entropy(*chain, 1), rel=1e-12)
    assert markov_masked_nats(*chain, length, 0.0) == 0
