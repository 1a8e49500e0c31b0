"""The cache changes nothing, and with the exact conditionals the samples have the exact distribution."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.data import Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import any_order_causal, ar
from mdlm_jax.objectives.autoregressive import ar_without_start
from mdlm_jax.objectives.base import causal
from mdlm_jax.sampling import Autoregressive, Context, Ordered, Trained, sample
from mdlm_jax.sampling.autoregressive import decode_in_order
from mdlm_jax.sampling.network import Network, reading
from mdlm_jax.training.loss import look
from tests.objectives.orders import order_law
from tests.sampling.toys import RARE, L, V, all_states, counts, oracle, toy_joint

B, LENGTH, VOCABULARY = 3, 9, 11
ROWS = 20_000


def empty():
    return jnp.zeros((ROWS, 0), int)


@cache
def network(key_value_heads=2, scan_layers=True):
    """A transformer and its parameters."""
    architecture = Architecture(VOCABULARY, 2, 32, 4, key_value_heads, 48)
    model = transformer(architecture, Execution(scan_layers=scan_layers))
    return model, jax.jit(model.init)(jax.random.key(1))


def seen_by(objective, tokens, given=0):
    """The whole view of these rows in training."""
    prompt_mask = jnp.broadcast_to(jnp.arange(tokens.shape[1]) < given, tokens.shape)
    example = Example(tokens, jnp.ones_like(tokens), prompt_mask)
    keys = jax.random.split(jax.random.key(5), len(tokens))
    return look(objective, (), keys, example, jnp.zeros(len(tokens)))


@partial(jax.jit, static_argnums=0)
def whole_pass(model, params, view):
    """The logits of every position, without a cache."""
    return model.head(params, model.hidden(params, view, causal)[0])


def log_probabilities(model, params, view):
    """Of the targets, by one pass without a cache."""
    logits = jax.nn.log_softmax(whole_pass(model, params, view))
    return jnp.take_along_axis(logits, view.targets[..., None], axis=-1)[..., 0]


@pytest.mark.few(1)
@pytest.mark.parametrize(("key_value_heads", "scan_layers"), [(4, True), (2, False)])
def test_cached_logits_match_one_full_pass(key_value_heads, scan_layers):
    model, params = network(key_value_heads=key_value_heads, scan_layers=scan_layers)
    tokens = jax.random.randint(jax.random.key(2), (B, LENGTH), 0, VOCABULARY)
    view = seen_by(ar(VOCABULARY), tokens)
    whole = whole_pass(model, params, view)

    @jax.jit
    def read(cache, part):
        hidden, cache = model.hidden(params, part, causal, cache=cache)
        return model.head(params, hidden), cache

    cache, start = model.empty_cache(B, LENGTH), 0
    for count in (4, 1, 1, 1, 1, 1):
        now = slice(start, start + count)
        part = reading(view.tokens[:, now], view.positions[:, now], view.key_positions[:, now], jnp.zeros(B))
        logits, cache = read(cache, part)
        np.testing.assert_allclose(logits, whole[:, now], rtol=0, atol=1e-5)
        start += count
    assert float(whole.std()) > 0.3  # so that 1e-5 means something


@pytest.mark.parametrize("given", [0, 5])
def test_left_to_right_draws_from_the_training_distribution(given):
    model, params = network()
    prompt = jax.random.randint(jax.random.key(3), (B, given), 0, VOCABULARY)
    tokens, trace = sample(jax.random.key(4), model, params, prompt, Autoregressive(temperature=0.7), LENGTH)
    expected = log_probabilities(model, params, seen_by(ar(VOCABULARY), tokens))
    np.testing.assert_array_equal(tokens[:, :given], prompt)
    np.testing.assert_allclose(trace.log_probability[:, given:], expected[:, given:], atol=1e-5)
    np.testing.assert_array_equal(trace.log_probability[:, :given], 0)
    np.testing.assert_array_equal(trace.step, np.tile(np.maximum(np.arange(LENGTH) - given, -1), (B, 1)))
    np.testing.assert_array_equal(trace.evaluations, LENGTH - given)


def test_first_token_without_start_symbol():
    """The network then reads the first token at position one."""
    model, params = network()
    prompt = jnp.array([[3], [4]])
    tokens, trace = sample(
        jax.random.key(4), model, params, prompt, Autoregressive(), LENGTH, Trained(reads_start=False)
    )
    expected = log_probabilities(model, params, seen_by(ar_without_start(VOCABULARY), tokens))
    np.testing.assert_allclose(trace.log_probability[:, 1:], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_random_order_draws_from_the_training_distribution(share):
    given = 3
    model, params = network()
    prompt = jax.random.randint(jax.random.key(3), (B, given), 0, VOCABULARY)
    # the orders of training depend on the keys alone, so those of any rows serve
    order = seen_by(any_order_causal(VOCABULARY, share), jnp.zeros((B, LENGTH), jnp.int32), given).positions[..., 1]
    keys = jax.random.split(jax.random.key(6), B)
    blank = jnp.concatenate([prompt, jnp.full((B, LENGTH - given), VOCABULARY)], axis=1).astype(jnp.int32)
    context = Context(Trained(), LENGTH, jnp.int32(given), jnp.float32(1), jnp.float32(0))
    tokens, trace = decode_in_order(keys, Network(model, params, blank), blank, order, Ordered(), context)
    expected = log_probabilities(model, params, seen_by(any_order_causal(VOCABULARY, share), tokens, given))
    got = jnp.take_along_axis(trace.log_probability, order, axis=1)
    np.testing.assert_array_equal(tokens[:, :given], prompt)
    np.testing.assert_allclose(got[:, given:], expected[:, given:], atol=1e-5)


def test_random_orders_are_uniform_after_the_prompt():
    _, trace = sample(jax.random.key(0), oracle(), (), empty(), Ordered(), L)
    orders, seen = np.unique(trace.step, axis=0, return_counts=True)
    assert len(orders) == 6 and chisquare(seen).pvalue > RARE
    _, trace = sample(jax.random.key(0), oracle(), (), jnp.zeros((ROWS, 1), int), Ordered(), L)
    assert set(map(tuple, np.asarray(trace.step))) == {(-1, 0, 1), (-1, 1, 0)}


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_partly_random_orders_have_their_law_and_give_the_joint(share):
    trained = Trained(shuffled_share=share)
    tokens, trace = sample(jax.random.key(1), oracle(), (), empty(), Ordered(), L, trained)
    assert chisquare(counts(tokens), ROWS * toy_joint()).pvalue > RARE
    law, orders = order_law(L, share), np.argsort(trace.step, axis=1)
    seen = np.array([(orders == order).all(axis=1).sum() for order in law])
    possible = np.array(list(law.values())) > 0
    assert seen[~possible].sum() == 0
    assert possible.sum() == 1 or chisquare(seen[possible], ROWS * np.array(list(law.values()))[possible]).pvalue > RARE


@pytest.mark.parametrize("sampler", [Autoregressive(), Ordered()])
def test_exact_conditionals_give_the_joint(sampler):
    tokens, trace = sample(jax.random.key(7), oracle(), (), empty(), sampler, L)
    assert chisquare(counts(tokens), ROWS * toy_joint()).pvalue > RARE
    # and the chain rule adds up to it, whatever the order
    index = np.ravel_multi_index(np.asarray(tokens).T, (V,) * L)
    np.testing.assert_allclose(trace.log_probability.sum(axis=1), np.log(toy_joint()[index]), atol=1e-4)


@pytest.mark.parametrize("sampler", [Autoregressive(), Ordered()])
def test_exact_conditionals_give_the_joint_after_a_prompt(sampler):
    first = 1
    tokens, _ = sample(jax.random.key(8), oracle(), (), jnp.full((ROWS, 1), first), sampler, L)
    follows = all_states()[:, 0] == first
    probs = toy_joint()[follows] / toy_joint()[follows].sum()
    assert chisquare(counts(tokens)[follows], ROWS * probs).pvalue > RARE


def test_temperature_sharpens_and_zero_is_greedy():
    model, params = network()
    cold, _ = sample(jax.random.key(0), model, params, empty()[:B], Autoregressive(temperature=0.0), LENGTH)
    np.testing.assert_array_equal(cold, whole_pass(model, params, seen_by(ar(VOCABULARY), cold)).argmax(axis=-1))
    # P(first token) at temperature T is proportional to p^(1 / T)
    sharp = toy_joint().reshape(V, -1).sum(axis=1) ** 2
    plan = Autoregressive(temperature=0.5)
    tokens, _ = sample(jax.random.key(1), oracle(), (), empty(), plan, L)
    assert chisquare(np.bincount(tokens[:, 0], minlength=V), ROWS * sharp / sharp.sum()).pvalue > RARE


def test_rows_end_at_the_stop_token():
    """Up to its first stop token a row is that without a stop; then it is filled, without an evaluation."""
    model, params = network()
    prompt, key, length = np.zeros((4, 2), np.int32), jax.random.key(5), 12
    free = np.asarray(sample(key, model, params, prompt, Autoregressive(), length)[0])
    stop = int(free[0, 5])  # a token that one row draws
    tokens, trace = sample(key, model, params, prompt, Autoregressive(stop=stop), length)
    for row in range(len(free)):
        drawn = list(free[row, 2:])
        end = drawn.index(stop) + 1 if stop in drawn else len(drawn)
        np.testing.assert_array_equal(tokens[row, 2:], drawn[:end] + [stop] * (len(drawn) - end))
        assert int(trace.evaluations[row]) == end
