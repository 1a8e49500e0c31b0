"""The forms of the any-order bound against each other, and against -log p(x) where the network knows the toy
distribution."""

import functools
import itertools
from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from mdlm_jax.exact import (
    ToyDistribution,
    any_order_bound,
    conditionals,
    gauss_legendre,
    masked_bound,
    masked_count_distribution,
    masked_nats,
    nats,
    order_nats,
    random_toy_distribution,
    table_network,
)
from mdlm_jax.schedules import cosine, geometric, linear, noise_rate, polynomial

V, L = 3, 4


@functools.cache
def toy():
    return random_toy_distribution(0, V, L)


@functools.cache
def optimal():
    return table_network(np.log(conditionals(toy())))


# any network: its conditionals agree with no joint distribution
@functools.cache
def arbitrary():
    return table_network(np.random.default_rng(1).normal(size=(V + 1,) * L + (L, V)))


SOME = (0, 17, 40, 80)  # of the sequences
some = pytest.mark.parametrize("row", SOME)


@functools.cache
def sizes():
    return np.array([bin(number).count("1") for number in range(2**L)])


def test_optimal_network_is_tight_for_every_sequence():
    bounds = [any_order_bound(optimal(), V, x) for x in toy().tokens]
    np.testing.assert_allclose(bounds, nats(toy()), rtol=1e-12)


def test_nats_per_masked_token_rise_with_the_count():
    """Han's inequalities: the h_k, means over sequences, sets of k masked tokens and members, sum to the entropy."""
    probability = toy().probability.ravel()
    table = np.einsum("x,xsl->s", probability, [masked_nats(optimal(), V, x) for x in toy().tokens])
    h = np.array([table[k == sizes()].mean() / k for k in range(1, L + 1)])
    assert (np.diff(h) >= -1e-14).all()
    assert h.sum() == pytest.approx(probability @ nats(toy()), rel=1e-12)


@some
def test_sum_over_sets_is_mean_over_orders(row):
    x = toy().tokens[row]
    each = order_nats(arbitrary(), V, x)
    assert len(each) == 24 and each.std() > 0.1
    assert any_order_bound(arbitrary(), V, x) == pytest.approx(each.mean(), rel=1e-13)


@some
def test_one_order_is_the_chain_rule(row):
    """The first and last order of `itertools.permutations` are left to right and right to left."""
    x = toy().tokens[row]
    for order, value in zip((range(L), reversed(range(L))), order_nats(arbitrary(), V, x)[[0, -1]], strict=True):
        seen, total = np.full((1, L), V), 0.0
        for position in order:
            logits = arbitrary()(seen)[0, position]
            total += logsumexp(logits) - logits[x[position]]
            seen[0, position] = x[position]
        assert value == pytest.approx(total, rel=1e-13)


@some
def test_published_forms_agree(row):
    """ARDM's step form, RADD's and SMDM's fixed counts, and RADD's integral over the mask rate."""
    x = toy().tokens[row]
    bound = any_order_bound(arbitrary(), V, x)
    table = masked_nats(arbitrary(), V, x)
    by_count = np.array([table.sum(axis=1)[k == sizes()].mean() for k in range(1, L + 1)])
    fixed_count = np.mean([L / k * by_count[k - 1] for k in range(1, L + 1)])
    steps = []
    for order in itertools.permutations(range(L)):
        for step in range(1, L + 1):
            rest = list(order[step - 1 :])
            steps.append(L / (L - step + 1) * table[sum(1 << position for position in rest), rest].sum())
    share, weight = gauss_legendre(L // 2 + 1)
    integral = weight / share @ masked_count_distribution(share, L) @ table.sum(axis=1)
    np.testing.assert_allclose([fixed_count, np.mean(steps), integral], bound, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_few_nodes_are_exact_for_linear(length):
    network = table_network(np.random.default_rng(2).normal(size=(V + 1,) * length + (length, V)))
    x = np.arange(length) % V
    value = masked_bound(masked_nats(network, V, x), linear(), *gauss_legendre(length // 2 + 1))
    assert value == pytest.approx(any_order_bound(network, V, x), rel=1e-13)


@some
@pytest.mark.parametrize(
    ("schedule", "root"),
    [
        (linear, 1),
        (cosine, 1),
        (partial(polynomial, 2.0), 1),
        (partial(polynomial, 3.0), 1),
        (partial(polynomial, 0.5), 4),
    ],
    ids=["linear", "cosine", "square", "cube", "square root"],
)
def test_bound_is_schedule_invariant(row, schedule, root):
    x = toy().tokens[row]
    s, weights = gauss_legendre(40)
    times = s**root  # smooths what is singular at 0
    value = masked_bound(masked_nats(arbitrary(), V, x), schedule(), times, weights * root * s ** (root - 1))
    assert value == pytest.approx(any_order_bound(arbitrary(), V, x), rel=1e-10)


@some
@pytest.mark.parametrize("sigma_min", [1e-2, 1e-4])
def test_geometric_schedule_misses_rates_below_sigma_min(row, sigma_min):
    """The integrand over the mask rate p is f(p); [0, 1 - exp(-sigma_min)] is missing, at f(0) = sum of nats."""
    x = toy().tokens[row]
    table = masked_nats(arbitrary(), V, x)
    value = masked_bound(table, geometric(sigma_min, 20.0), *gauss_legendre(120))
    low, high = -np.expm1(-sigma_min), -np.expm1(-20.0)
    share, weight = gauss_legendre(L // 2 + 1, low, high)
    assert value == pytest.approx(weight / share @ masked_count_distribution(share, L) @ table.sum(axis=1), rel=1e-10)
    first_order = sigma_min * table[sizes() == 1].sum()
    assert any_order_bound(arbitrary(), V, x) - value == pytest.approx(first_order, rel=3 * L * sigma_min)


def test_sampling_in_random_order_mixes_orders():
    """One random masked position at a time, followed exactly through all (V+1)^L partial sequences."""
    probs = {(V,) * L: 1.0}
    for revealed in range(L):
        following: dict[tuple[int, ...], float] = {}
        for seen, chance in probs.items():
            logits = arbitrary()(np.array([seen]))[0]
            for position in (i for i in range(L) if seen[i] == V):
                for token in range(V):
                    child = (*seen[:position], token, *seen[position + 1 :])
                    share = np.exp(logits[position, token] - logsumexp(logits[position])) / (L - revealed)
                    following[child] = following.get(child, 0) + chance * share
        probs = following
    each = np.array([order_nats(arbitrary(), V, x) for x in toy().tokens])
    sampled = np.array([probs[tuple(x)] for x in toy().tokens.tolist()])
    np.testing.assert_allclose(np.exp(-each).mean(axis=1), sampled, rtol=1e-12)
    assert sampled.sum() == pytest.approx(1, rel=1e-12)
    # Jensen: the bound is above -log of the mixture, and strictly here
    assert (each.mean(axis=1) > -np.log(sampled)).all()


@some
def test_networks_may_read_mask_rate_not_time(row):
    """A network that reads the mask rate keeps the bound schedule-invariant; one that reads t does not."""
    x = toy().tokens[row]
    tables = [masked_nats(arbitrary(), V, x).sum(axis=1), masked_nats(optimal(), V, x).sum(axis=1)]
    times, weights = gauss_legendre(60)

    def bound(schedule, told):
        with jax.enable_x64(True):
            noised, rate = (np.asarray(value) for value in noise_rate(schedule, jnp.asarray(times)))
        level = told(times, noised)[:, None]
        mixed = (1 - level) * tables[0] + level * tables[1]
        return (weights * rate) @ (masked_count_distribution(noised, L) * mixed).sum(axis=1)

    schedules = [linear(), cosine(), polynomial(2.0)]
    with_share = [bound(schedule, lambda time, noised: noised) for schedule in schedules]
    with_time = [bound(schedule, lambda time, noised: time) for schedule in schedules]
    np.testing.assert_allclose(with_share, with_share[0], rtol=1e-9)
    assert np.ptp(with_time) > 1e-3


def test_smdm_toy():
    """A closed-form network with the prompt 1, 2, 3, as SMDM evaluates the tokens 4, 5, 6, 7."""
    vocab, prefix, x = 8, [1, 2, 3], np.array([4, 5, 6, 7])
    weights = np.cos(0.7 * np.arange(72)).reshape(9, 8)

    def network(tokens):
        row = np.concatenate([np.tile(prefix, (len(tokens), 1)), tokens], axis=1)
        wide = np.pad(row, ((0, 0), (2, 2)), constant_values=vocab)
        near = sum(weights[wide[:, 2 + d : 2 + d + row.shape[1]]] / (1 + abs(d)) for d in range(-2, 3))
        position = np.sin(np.arange(row.shape[1]))[:, None] * np.arange(vocab)
        return (near + 0.1 * position)[:, len(prefix) :]

    assert any_order_bound(network, vocab, x) == pytest.approx(8.0071879, abs=5e-7)
    each = order_nats(network, vocab, x)
    assert each.mean() == pytest.approx(8.0071879, abs=5e-7)
    assert each[0] == pytest.approx(8.4311247, abs=5e-7)  # left to right
    # with the share of hidden tokens in [1e-3, 1], as SMDM evaluates
    times, weight = gauss_legendre(20, 1e-3, 1.0)
    smdm = masked_bound(masked_nats(network, vocab, x), linear(), times, weight) / (1 - 1e-3)
    assert smdm == pytest.approx(8.00916, abs=5e-6)


def test_blocks_of_one_are_autoregression():
    """Masked diffusion of one token given clean ones costs its -log p: blocks of size 1 add up to the chain rule."""
    for x in toy().tokens[list(SOME)]:
        total = 0.0
        for position in range(L):

            def one(tokens, position=position, x=x):
                row = np.concatenate([np.tile(x[:position], (len(tokens), 1)), tokens], axis=1)
                wide = np.pad(row, ((0, 0), (0, L - row.shape[1])), constant_values=V)
                return optimal()(wide)[:, position : position + 1]

            total += any_order_bound(one, V, x[position : position + 1])
        assert total == pytest.approx(-log(toy().probability[tuple(x)]), rel=1e-12)


def test_independent_tokens_have_no_best_order():
    """Every order costs the same."""
    marginal = np.array([0.1, 0.2, 0.7])
    toy = ToyDistribution(np.einsum("a,b,c->abc", marginal, marginal, marginal))
    each = order_nats(table_network(np.log(conditionals(toy))), V, np.array([2, 0, 1]))
    np.testing.assert_allclose(each, -np.log(marginal).sum(), rtol=1e-12)
