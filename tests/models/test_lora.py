"""Adapters against the plain network, against merged weights and against their formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.lora import Lora, merged, with_adapters
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import causal
from mdlm_jax.sampling.network import reading

V, L = 11, 6
LORA = Lora(("query", "down", "gate"), 3, 6.0)


def network(execution=None):
    architecture = Architecture(V, layers=2, width=16, heads=2, key_value_heads=1, mlp_width=24)
    return transformer(architecture, execution or Execution())


def logits(model, params):
    tokens = jnp.arange(2 * L).reshape(2, L) % V
    positions = jnp.broadcast_to(jnp.arange(L), (2, L))[..., None]
    view = reading(tokens, positions, positions, jnp.zeros(2))
    hidden, _ = model.hidden(params, view, causal)
    return np.asarray(model.head(params, hidden))


def changed(params, key=5):
    """The parameters with adapters that are not zero."""
    leaves, tree = jax.tree.flatten(params["lora"])
    drawn = [jax.random.normal(jax.random.key(key + i), leaf.shape) for i, leaf in enumerate(leaves)]
    return {**params, "lora": tree.unflatten(drawn)}


def test_adapters_begin_as_nothing():
    """The weights of the network are those that it has without adapters, and the logits agree bitwise."""
    plain, adapted = network(), with_adapters(network(), LORA)
    params, other = plain.init(jax.random.key(0)), adapted.init(jax.random.key(0))
    for name in ("ends", "blocks"):
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params[name], other[name]))
    assert all(bool(leaf.any()) for leaf in jax.tree.leaves(other["lora"]["a"]))
    assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(other["lora"]["b"]))
    np.testing.assert_array_equal(logits(plain, params), logits(adapted, other))


@pytest.mark.parametrize("scan", [False, True])
def test_merged_weights_give_the_same_logits(scan):
    plain = network(Execution(scan_layers=scan))
    adapted = with_adapters(plain, LORA)
    params = changed(adapted.init(jax.random.key(0)))
    whole = merged(params, LORA)
    assert whole.keys() == {"ends", "blocks"} and merged(whole, LORA) is whole
    found = logits(adapted, params)
    np.testing.assert_array_equal(found, logits(plain, whole))
    np.testing.assert_array_equal(found, logits(adapted, adapted.by_layer(params)))
    assert abs(found - logits(adapted, {**params, "lora": jax.tree.map(jnp.zeros_like, params["lora"])})).max() > 0.1


def test_formula():
    """W x + alpha / rank B (A x) in float64, for every adapted matrix and layer; all others are as they were."""
    params = changed(with_adapters(network(), LORA).init(jax.random.key(0)))
    whole, generator = merged(params, LORA), np.random.default_rng(0)
    for name, leaves in params["blocks"].items():
        if name not in LORA.matrices:
            assert whole["blocks"][name] is leaves
            continue
        for layer in range(2):
            kernel, a, b = (
                np.asarray(leaf[layer], np.float64)
                for leaf in (leaves["kernel"], params["lora"]["a"][name], params["lora"]["b"][name])
            )
            x = generator.normal(size=kernel.shape[0])
            expected = x @ kernel + 2.0 * (x @ a) @ b
            np.testing.assert_allclose(x @ np.asarray(whole["blocks"][name]["kernel"][layer]), expected, atol=1e-4)


def test_unknown_matrices_are_refused():
    with pytest.raises(UserError, match="has 'norm_1'; accepted for this network: .*query"):
        with_adapters(network(), LORA._replace(matrices=("query", "norm_1")))
