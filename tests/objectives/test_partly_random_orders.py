"""The bound of a network in orders that are random for a share of the tokens: each order, its probability, its nats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chisquare

from mdlm_jax.build.objective import objective_label
from mdlm_jax.config import load_config
from mdlm_jax.data import Example
from mdlm_jax.exact import (
    any_order_bound,
    any_order_causal_oracle,
    entropy,
    expected_nats,
    gauss_legendre,
    masked_bound,
    masked_nats,
    order_nats,
    random_toy_distribution,
    table_network,
)
from mdlm_jax.objectives.any_order import any_order_causal
from mdlm_jax.schedules import linear
from tests.objectives.orders import order_law

V, L, DRAWS = 3, 3, 20_000
X = (2, 0, 1)


def table():
    """Logits of a network whose conditionals are those of no distribution: each order costs another number of nats."""
    return np.random.default_rng(0).normal(size=(V + 1,) * L + (L, V)).astype(np.float32)


def reads_causally(logits):
    """The same network behind a causal view: each target given the tokens read up to it."""

    def oracle(view):
        source, target = view.positions[:, 0], view.positions[:, 1]

        def at(n):
            read = (jnp.arange(L) <= n) & (source >= 0)
            seen = jnp.full(L + 1, V).at[jnp.where(read, source, L)].set(view.tokens)[:L]
            return logits[tuple(seen)][target[n]]

        return jax.vmap(at)(jnp.arange(L))

    return oracle


def drawn(share):
    """The order and the nats of many views of X."""
    objective, oracle = any_order_causal(V, share), reads_causally(jnp.asarray(table()))
    example = Example(jnp.asarray(X), jnp.ones(L, jnp.int32), jnp.zeros(L, bool))

    @jax.jit
    @jax.vmap
    def one(key):
        view = jax.tree.map(lambda field: field[0], objective.view((), key, example, jnp.float32(0.5)))
        return view.positions[:, 1], objective.token_loss((), oracle(view), view).sum()

    return map(np.asarray, one(jax.random.split(jax.random.key(0), DRAWS)))


@pytest.mark.few(1)
@pytest.mark.parametrize("share", [0.3, 0.0, 0.7, 1.0])
def test_the_bound_is_the_mean_over_the_orders(share):
    orders, nats = drawn(share)
    law, of_order = order_law(L, share), order_nats(table_network(table()), V, np.array(X))
    probability = np.array(list(law.values()))
    which = (orders[:, None] == np.array(list(law))).all(axis=2).argmax(axis=1)
    np.testing.assert_allclose(nats, of_order[which], rtol=1e-5)
    seen = np.bincount(which, minlength=len(law))
    possible = probability > 0
    assert seen[~possible].sum() == 0
    assert possible.sum() == 1 or chisquare(seen[possible], DRAWS * probability[possible]).pvalue > 1e-4
    # the network in these orders draws X with the mean of exp(-nats): the bound lies above its -log
    least = -logsumexp(-of_order[possible], b=probability[possible])
    assert probability @ of_order > least + 0.01 if share else np.isclose(probability @ of_order, least)


def test_the_ends_are_masked_diffusion_and_left_to_right():
    network = table_network(table())
    of_order = order_nats(network, V, np.array(X))
    orders = list(order_law(L, 1.0))
    diffusion = np.array(list(order_law(L, 1.0).values())) @ of_order
    np.testing.assert_allclose(diffusion, any_order_bound(network, V, np.array(X)), rtol=1e-12)
    np.testing.assert_allclose(
        diffusion, masked_bound(masked_nats(network, V, np.array(X)), linear(), *gauss_legendre(2)), rtol=1e-12
    )
    left_to_right = np.array(list(order_law(L, 0.0).values())) @ of_order
    assert left_to_right == of_order[orders.index((0, 1, 2))]


@pytest.mark.few(1)
@pytest.mark.parametrize("share", [0.5, 0.0])
def test_every_order_of_the_best_network_costs_the_entropy(share):
    toy = random_toy_distribution(0, V, L)
    mean, error = expected_nats(any_order_causal(V, share), any_order_causal_oracle(toy), toy, jax.random.key(0), 10)
    assert abs(mean - entropy(toy)) < 1e-6 * entropy(toy) and error < 1e-6


def test_share_is_in_the_label_and_decides_the_bound():
    given = ["--config.objective.name=any_order_causal", "--config.objective.shuffled_share=0.25"]
    assert objective_label(load_config("base", given)) == "any_order_causal-shuffled0.25"
    assert [any_order_causal(V, share).bound for share in (0.0, 0.25, 1.0)] == ["exact", "upper", "upper"]
