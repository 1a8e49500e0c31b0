"""The likelihood in random and in fixed orders against the enumeration of all orders."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.evaluation.orders import causal_order_nats, log_mean, order_bound, order_nats
from mdlm_jax.exact import conditionals, masked_nats, nats, random_toy_distribution, table_network
from mdlm_jax.exact import order_nats as nats_of_all_orders
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.any_order import any_order_causal
from mdlm_jax.objectives.base import causal, full
from mdlm_jax.sampling.network import reading

V, L = 3, 3
ORDERS = list(itertools.permutations(range(L)))


def text():
    return np.array([0, 2, 1], np.int32)


def example(tokens, prompt=()) -> Example:
    prompt_mask = np.broadcast_to(np.isin(np.arange(L), prompt), tokens.shape)
    return Example(tokens, np.ones_like(tokens), prompt_mask)


@pytest.fixture(scope="module")
def trained():
    """(a network far from uniform, so that orders matter; its parameters; the same as a function of masked tokens)"""
    model = transformer(Architecture(V, 1, 8, 2, 2, 16), Execution())
    params = jax.tree.map(lambda leaf: 1.5 * leaf, jax.jit(model.init)(jax.random.key(0)))

    def network(tokens):
        positions = jnp.broadcast_to(jnp.arange(L)[:, None], (*tokens.shape, 1))
        view = reading(jnp.asarray(tokens), positions, positions, jnp.zeros(len(tokens)))
        return model.head(params, model.hidden(params, view, full)[0])

    return model, params, network


@pytest.fixture(scope="module")
def arbitrary():
    """A network whose conditionals agree with no joint distribution."""
    return table_network(np.random.default_rng(1).normal(size=(V + 1,) * L + (L, V)))


@pytest.mark.few(2)
@pytest.mark.parametrize("order", range(len(ORDERS)))
def test_fixed_order(trained, order):
    model, params, network = trained
    ranks = jnp.argsort(jnp.array(ORDERS[order]))
    found = order_nats(model, params, example(text()[None]), orders=1, batch_size=2, ranks=lambda *_: ranks)
    assert found[0, 0] == pytest.approx(nats_of_all_orders(network, V, text())[order], rel=1e-5)


def test_random_orders(trained):
    """Each is one of all orders, and the mean over 8 orders lies between the bound and its limit."""
    model, params, network = trained
    exact = nats_of_all_orders(network, V, text())
    rows = example(np.repeat(text()[None], 200, axis=0))
    found = order_nats(model, params, rows, orders=8, batch_size=600)
    nearest = np.abs(found[:, :, None] - exact)
    assert nearest.min(axis=2).max() < 1e-5 and len(np.unique(nearest.argmin(axis=2))) == len(ORDERS)
    bound, error = order_bound(found), found.std() / math.sqrt(200)
    assert (bound.nats <= bound.half + 1e-9).all() and (bound.half <= bound.elbo + 1e-9).all()
    assert abs(bound.elbo.mean() - exact.mean()) < 5 * error
    assert log_mean(exact) - 5 * error < bound.nats.mean() <= bound.elbo.mean()
    # half of the difference of two independent means is an unbiased square of the error of their mean
    assert (bound.standard_error**2).mean() == pytest.approx(bound.half.var(ddof=1), rel=0.5)


def test_more_rows_and_orders_keep_the_first(trained, monkeypatch):
    model, params, _ = trained
    monkeypatch.setattr("mdlm_jax.evaluation.orders.VIEWS", 2 * 4 * L)  # two rows at once
    rows = example(np.random.default_rng(0).integers(0, V, (5, L), np.int32))
    many = order_nats(model, params, rows, orders=4, batch_size=7)
    few = order_nats(model, params, jax.tree.map(lambda field: field[:3], rows), orders=2, batch_size=100)
    np.testing.assert_allclose(many[:3, :2], few, rtol=1e-5)


def test_prompts_and_padding_are_given(trained):
    model, params, network = trained
    first = masked_nats(network, V, text())[-1, 0]
    exact = nats_of_all_orders(network, V, text())[:2] - first  # the two orders that begin with position 0
    found = order_nats(model, params, example(text()[None], prompt=[0]), orders=16, batch_size=8)
    assert np.abs(found[0, :, None] - exact).min(axis=1).max() < 1e-5 and np.ptp(found) > 0
    padded = example(text()[None])._replace(segments=np.array([[1, 1, 0]], np.int32))
    short = jax.tree.map(lambda field: field[:, :2], padded)
    found, exact = (order_nats(model, params, rows, orders=16, batch_size=8)[0] for rows in (padded, short))
    np.testing.assert_allclose([found.min(), found.max()], [exact.min(), exact.max()], rtol=1e-5)


def random_order_nats(network, tokens) -> float:
    """-log p of the sampler that unmasks a uniformly random position at a time, by recursion over the masked sets."""
    table = np.exp(-masked_nats(network, V, tokens))
    drawn = {0: 1.0}
    for hidden in range(1, 2**L):
        members = [i for i in range(L) if hidden >> i & 1]
        drawn[hidden] = sum(table[hidden, i] * drawn[hidden - (1 << i)] for i in members) / len(members)
    return -math.log(drawn[2**L - 1])


def test_all_orders_are_the_likelihood_of_the_random_order_model(arbitrary):
    texts = np.array(list(itertools.product(range(V), repeat=L)))
    found = np.array([log_mean(nats_of_all_orders(arbitrary, V, tokens)) for tokens in texts])
    np.testing.assert_allclose(found, [random_order_nats(arbitrary, tokens) for tokens in texts], rtol=1e-12)
    assert np.exp(-found).sum() == pytest.approx(1, rel=1e-12)


def test_bound_falls_with_the_number_of_orders(arbitrary):
    """The mean over all sets of K of the 6 orders: the elbo at K = 1, -log p of the random-order model at K = 6."""
    of_order = nats_of_all_orders(arbitrary, V, text())
    means = [
        log_mean(np.array(list(itertools.combinations(of_order, count)))).mean() for count in range(1, len(ORDERS) + 1)
    ]
    assert (np.diff(means) < 0).all()
    assert means[0] == pytest.approx(of_order.mean(), rel=1e-12)
    assert means[-1] == pytest.approx(random_order_nats(arbitrary, text()), rel=1e-12)


def test_bound_lies_between_elbo_and_the_text(arbitrary):
    """Its mean over a toy distribution is not below the entropy; the perfect network's is equal to it."""
    toy = random_toy_distribution(0, V, L)
    probability, perfect = toy.probability.ravel(), table_network(np.log(conditionals(toy)))
    for network in (arbitrary, perfect):
        found = np.array([nats_of_all_orders(network, V, tokens) for tokens in toy.tokens])
        bound = order_bound(found)
        entropy = probability @ nats(toy)
        assert (
            entropy - 1e-12 <= probability @ bound.nats <= probability @ bound.half <= probability @ bound.elbo + 1e-12
        )
    np.testing.assert_allclose(bound.nats, nats(toy), rtol=1e-10)


def test_orders_read_causally(trained):
    """One pass gives the nats of one order: the row [start, x_a, x_b] read causally predicts x_a, x_b, x_c."""
    model, params, _ = trained
    order = jnp.array(ORDERS)
    read = jnp.append(jnp.full((len(order), 1), V), jnp.array(text())[order[:, :-1]], axis=1)
    own = jnp.append(jnp.full((len(order), 1), -1), order[:, :-1], axis=1)
    view = reading(read, jnp.stack([own, order], axis=-1), jnp.stack([own, own], axis=-1), jnp.zeros(len(order)))
    logs = jax.nn.log_softmax(model.head(params, model.hidden(params, view, causal)[0]))
    exact = -np.asarray(jnp.take_along_axis(logs, jnp.array(text())[order][..., None], axis=-1), np.float64).sum((1, 2))

    rows = example(np.repeat(text()[None], 10, axis=0))
    objective = any_order_causal(V)
    found = causal_order_nats(model, objective, params, rows, orders=16, batch_size=32, chunk=L)
    nearest = np.abs(found[..., None] - exact)
    assert nearest.min(axis=2).max() < 1e-5 and len(np.unique(nearest.argmin(axis=2))) == len(ORDERS)
