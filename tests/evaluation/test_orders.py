"""The K-order bound against the enumeration of all orders."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.data import Example
from mdlm_jax.evaluation.orders import order_bound
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.any_order import mask_tokens
from mdlm_jax.objectives.base import full

V, L = 3, 3


def test_orders_are_those_of_enumeration():
    model = transformer(Architecture(V, 1, 8, 2, 2, 16), Execution())
    params = jax.tree.map(lambda leaf: 1.5 * leaf, jax.jit(model.init)(jax.random.key(0)))
    row = Example(np.array([0, 2, 1], np.int32), np.ones(L, np.int32), np.zeros(L, bool))
    masks = np.array(list(itertools.product([False, True], repeat=L)))
    view = jax.vmap(lambda masked: jax.tree.map(lambda f: f[0], mask_tokens(row, masked, 1.0, V, 0.0)))(
        jnp.array(masks)
    )
    logp = np.asarray(jax.nn.log_softmax(model.head(params, model.hidden(params, view, full)[0])), np.float64)
    table = {tuple(mask): logp[i, np.arange(L), row.tokens] for i, mask in enumerate(masks)}
    exact = []
    for order in itertools.permutations(range(L)):
        exact.append(-sum(table[tuple(p in order[k:] for p in range(L))][order[k]] for k in range(L)))
    exact = np.array(exact)

    rows = jax.tree.map(lambda field: np.repeat(field[None], 200, axis=0), row)
    one = order_bound(model, params, rows, orders=1, batch_size=600, chunk=L)
    nearest = np.abs(one.nats[:, None] - exact).min(axis=1)
    assert nearest.max() < 1e-5
    many = order_bound(model, params, rows, orders=8, batch_size=600, chunk=L)
    assert (many.nats <= many.elbo + 1e-9).all()
    error = one.nats.std() / np.sqrt(200)
    assert abs(many.elbo.mean() - exact.mean()) < 5 * error
    limit = -np.log(np.exp(-exact).mean())
    assert limit - 5 * error < many.nats.mean() <= many.elbo.mean()
