"""The reported likelihood against enumeration, and the honesty of its errors."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.evaluation.likelihood import EVALUATION_KEY, Likelihood, evaluate
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.any_order import mask_tokens
from mdlm_jax.objectives.base import full
from mdlm_jax.schedules import linear

V, L = 5, 6


@functools.cache
def network():
    return transformer(Architecture(V, 1, 8, 2, 2, 16), Execution())


@pytest.fixture(scope="module")
def params():
    drawn = jax.jit(network().init)(jax.random.key(0))
    return jax.tree.map(lambda leaf: 1.5 * leaf, drawn)  # far from uniform, so that orders matter


def rows(count: int) -> Example:
    tokens = np.random.default_rng(0).integers(0, V, (count, L), np.int32)
    return Example(tokens, np.ones_like(tokens), np.zeros(tokens.shape, bool))


def objective(name):
    return OBJECTIVES[name](V, linear()) if name == "masked" else OBJECTIVES[name](V)


def any_order_bound(params, tokens) -> float:
    """Nats of one sequence: sum over the sets of hidden tokens of (k-1)! (L-k)! / L! times their cross-entropies."""
    sets = np.array(list(itertools.product([False, True], repeat=L))[1:])
    k = sets.sum(axis=1)
    weight = [math.factorial(n - 1) * math.factorial(L - n) / math.factorial(L) for n in k]
    example = Example(jnp.asarray(tokens), jnp.ones(L, jnp.int32), jnp.zeros(L, bool))
    views = jax.vmap(lambda hidden: jax.tree.map(lambda field: field[0], mask_tokens(example, hidden, 1.0, V, 0.5)))(
        sets
    )
    logits = network().head(params, network().hidden(params, views, full)[0])
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(tokens)[None, :, None], axis=2)[..., 0]
    return float((jnp.where(sets, nats, 0).sum(axis=1) * jnp.asarray(weight)).sum())


@pytest.mark.parametrize("name", ["any_order", "masked", "masked_lm"])
def test_bound_converges_to_enumeration(params, name):
    held_out = rows(8)
    exact = sum(any_order_bound(params, tokens) for tokens in held_out.tokens) / (8 * L)
    found = evaluate(network(), objective(name), params, (), held_out, draws=600, batch_size=8, chunk=L)
    assert found.bound == "upper" and found.estimator == "any-order k-form, stratified counts"
    assert abs(found.nats_per_token - exact) < 4 * found.monte_carlo_error < 0.04 * exact


@pytest.mark.slow
def test_monte_carlo_error_is_honest(params):
    """Over many small evaluations the spread of estimate minus truth is near the reported error."""
    held_out = rows(32)
    truth = np.array([any_order_bound(params, tokens) for tokens in held_out.tokens]) / L
    misses, claims = [], []
    for part in range(8):
        own = slice(4 * part, 4 * part + 4)
        found = evaluate(
            network(),
            objective("masked"),
            params,
            (),
            Example(*(field[own] for field in held_out)),
            draws=6,
            batch_size=4,
            chunk=L,
        )
        misses.append(found.nats_per_token - truth[own].mean())
        claims.append(found.monte_carlo_error)
    ratio = np.std(misses) / np.sqrt(np.mean(np.square(claims)))
    assert 0.3 < ratio < 1.8  # stratified draws are a little better than they say


@pytest.mark.slow
def test_ar_is_the_chain_rule_without_noise(params):
    held_out = rows(5)
    found = evaluate(network(), objective("ar"), params, (), held_out, draws=9, batch_size=2, chunk=2)
    nats = []
    for tokens in held_out.tokens:
        for position in range(L):
            read = jnp.concatenate([jnp.array([V]), jnp.asarray(tokens[:position])])[None]
            view = objective("ar").view((), jax.random.key(0), Example(*(jnp.asarray(f[0]) for f in rows(1))), 0.0)
            view = jax.tree.map(lambda field: field[:, : position + 1] if field.ndim > 1 else field, view)  # noqa: B023
            hidden, _ = network().hidden(params, view._replace(tokens=read), objective("ar").mask)
            nats.append(-jax.nn.log_softmax(network().head(params, hidden)[0, -1])[tokens[position]])
    np.testing.assert_allclose(found.nats_per_token, np.mean(nats), rtol=1e-5)
    assert (found.draws, found.monte_carlo_error, found.bound, found.tokens) == (1, 0.0, "exact", 5 * L)
    by_row = np.reshape(nats, (5, L)).mean(axis=1)
    np.testing.assert_allclose(found.standard_error, by_row.std(ddof=1) / math.sqrt(5), rtol=1e-4)


def test_evaluation_is_reproducible(params):
    """Two evaluations agree to the last digit, and the batch size changes only the rounding."""
    first, again, other = (
        evaluate(network(), objective("masked"), params, (), rows(10), draws=3, batch_size=size, chunk=L)
        for size in (4, 4, 10)
    )
    assert first == again
    np.testing.assert_allclose(other.nats_per_token, first.nats_per_token, rtol=1e-5)


def test_padding_and_prompts_have_no_loss(params):
    """Uniform logits cost exactly ln V for each loss token, with any padding."""
    zero = jax.tree.map(jnp.zeros_like, params)
    held_out = rows(4)
    held_out.segments[:, 4:] = 0
    held_out.prompt_mask[:, 0] = True
    for name in ("ar", "masked", "any_order_causal"):
        found = evaluate(network(), objective(name), zero, (), held_out, draws=4, batch_size=4, chunk=L)
        assert found.tokens == 4 * 3
        if name != "masked":
            np.testing.assert_allclose(found.nats_per_token, math.log(V), rtol=1e-5)
        np.testing.assert_allclose(found.nats_per_token, math.log(V), rtol=0.2)


def noise_itself():
    """An objective whose nats for a row are the noise that it is given: uniform, whatever the network says."""
    base = objective("masked")

    def view(objective_params, key, example, u):
        drawn = base.view(objective_params, key, example, u)
        return drawn._replace(weight=jnp.zeros_like(drawn.weight), constant=jax.random.uniform(key))

    return base._replace(view=view, evaluate=None)


def test_errors_by_formula(params):
    """Every row and draw has noise of its own, and rows are weighted by their tokens."""
    draws, lengths = 3, np.array([6, 1, 3, 2, 5])
    held_out = rows(5)
    held_out.segments[np.arange(L) >= lengths[:, None]] = 0
    found = evaluate(network(), noise_itself(), params, (), held_out, draws=draws, batch_size=2, chunk=L)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(EVALUATION_KEY), jnp.arange(5 * draws))
    nats = np.array(jax.vmap(jax.random.uniform)(keys), np.float64).reshape(5, draws)
    assert len(np.unique(nats)) == 5 * draws
    mean, total = nats.mean(axis=1).sum() / lengths.sum(), lengths.sum()
    residual = nats.mean(axis=1) - mean * lengths
    assert found.tokens == total and found.nats_per_token == pytest.approx(mean)
    assert found.standard_error == pytest.approx(math.sqrt((residual**2).sum() * 5 / 4) / total)
    by_draw = nats.sum(axis=0) / total
    assert found.monte_carlo_error == pytest.approx(by_draw.std(ddof=1) / math.sqrt(draws))


def test_equal_rows_have_independent_noise(params):
    held_out = jax.tree.map(lambda field: np.repeat(field[:1], 4, axis=0), rows(1))
    found = evaluate(network(), noise_itself(), params, (), held_out, draws=2, batch_size=4, chunk=L)
    assert found.standard_error > 1e-4  # it would be 0


def test_bits_per_byte():
    """Six bits per token of three bytes are two bits per byte."""
    found = Likelihood(6 * math.log(2), 0.1, 0.0, 10, 1, "", "exact")
    assert found.bits_per_byte(3.0) == pytest.approx(2.0) and found.bits_per_byte(None) is None
