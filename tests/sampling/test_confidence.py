"""Decoding by confidence: its distribution where that is known, and what must not change it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.sampling import Confidence, left_padded, sample
from tests.sampling.toys import RARE, L, V, all_states, conditionals, counts, oracle, toy_joint

ROWS, LENGTH, VOCABULARY = 20_000, 12, 11


def empty():
    return jnp.zeros((ROWS, 0), int)


@functools.cache
def network():
    return transformer(Architecture(VOCABULARY, 2, 32, 4, 2, 48, time_conditioning=True), Execution(use_segments=False))


def first_tokens():
    return jax.random.randint(jax.random.key(2), (3, 4), 0, VOCABULARY)


@pytest.fixture(scope="module")
def params():
    """Far from the start: adaLN begins at zero, and small logits would leave every confidence below its limit."""
    noise = iter(jax.random.split(jax.random.key(9), 99))
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(next(noise), leaf.shape), jax.jit(network().init)(jax.random.key(1))
    )


def run(params, **arguments):
    return sample(jax.random.key(0), network(), params, first_tokens(), Confidence(**arguments), LENGTH)


@pytest.mark.parametrize("confidence", ["probability", "margin", "entropy", "random"])
def test_one_token_at_a_time_gives_the_joint(confidence):
    """The order may depend on the prediction but not on the drawn tokens: to unmask the most probable one first makes
    likely tokens likelier."""
    tokens, trace = sample(jax.random.key(0), oracle(), (), empty(), Confidence(confidence=confidence), L)
    exact = chisquare(counts(tokens), ROWS * toy_joint()).pvalue
    assert exact < 1e-6 if confidence == "probability" else exact > RARE
    np.testing.assert_array_equal(np.sort(trace.step, axis=1), np.broadcast_to(np.arange(L), (ROWS, L)))


def test_all_tokens_at_once_are_independent():
    tokens, trace = sample(jax.random.key(0), oracle(), (), empty(), Confidence(steps=1), L)
    probs = np.prod([conditionals()[(V,) * L][i, all_states()[:, i]] for i in range(L)], axis=0)
    assert chisquare(counts(tokens), ROWS * probs).pvalue > RARE
    np.testing.assert_array_equal(trace.evaluations, 1)


def test_log_probability_is_at_temperature_one():
    tokens, trace = sample(jax.random.key(0), oracle(), (), empty(), Confidence(temperature=0.7), L)
    for row, step, nats in zip(*(np.asarray(field)[:50] for field in (tokens, *trace[:2])), strict=True):
        for position in range(L):
            read = np.where(step < step[position], row, V)
            np.testing.assert_allclose(
                nats[position], np.log(conditionals()[tuple(read)][position, row[position]]), atol=1e-4
            )


@pytest.mark.few(1)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_unreachable_limit_unmasks_one_token_a_step(params, cache, temperature):
    arguments = {"cache": cache, "temperature": temperature, "block_size": 4}
    one_by_one, trace = run(params, **arguments)
    strict, strict_trace = run(params, rule="threshold", limit=1.1, **arguments)
    np.testing.assert_array_equal(one_by_one, strict)
    np.testing.assert_array_equal(trace.step, strict_trace.step)
    np.testing.assert_array_equal(strict_trace.evaluations, LENGTH - 4)
    loose, loose_trace = run(params, rule="threshold", limit=0.0, **arguments)
    np.testing.assert_array_equal(loose_trace.evaluations, 2)
    assert (np.asarray(loose) < VOCABULARY).all()


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_always_fresh_cache_changes_nothing(params, cache):
    """Blocks of one token, and blocks in one step, read everything anew; larger ones do not."""
    for arguments in ({"block_size": 1}, {"block_size": 4, "rule": "threshold", "limit": 0.0}):
        plain, plain_trace = run(params, **arguments)
        cached, cached_trace = run(params, cache=cache, **arguments)
        np.testing.assert_array_equal(plain, cached)
        np.testing.assert_allclose(plain_trace.log_probability, cached_trace.log_probability, atol=1e-5)
    plain, plain_trace = run(params, block_size=4)
    cached, cached_trace = run(params, block_size=4, cache=cache)
    assert (np.abs(plain_trace.log_probability - cached_trace.log_probability) > 1e-3).any()


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "arguments",
    [
        {"rule": "threshold", "limit": 0.3, "cache": "dual"},
        {"rule": "factor", "limit": 0.5, "guidance": 1.0},
        {"rule": "entropy_bound", "limit": 0.5, "confidence": "entropy", "stop": 3},
        {"confidence": "random", "steps": 4, "cache": "prefix"},
    ],
)
def test_rows_do_not_depend_on_their_batch(params, arguments):
    """Rows need different numbers of steps."""
    plan = Confidence(block_size=4, **arguments)
    together, trace = sample(jax.random.key(1), network(), params, first_tokens(), plan, LENGTH)
    alone, trace_alone = sample(jax.random.key(1), network(), params, first_tokens()[:1], plan, LENGTH)
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(trace.step[:1], trace_alone.step)
    np.testing.assert_array_equal(trace.evaluations[:1], trace_alone.evaluations)
    np.testing.assert_array_equal(together[:, :4], first_tokens())


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "arguments",
    [
        {"cache": "dual"},
        {"block_size": 16, "steps": 12, "cache": "dual"},
        {"cache": "prefix"},
        {"block_size": 16, "steps": 12},
    ],
)
@pytest.mark.parametrize("prompts", ["with masks inside", "of several lengths"])
def test_rows_do_not_depend_on_where_others_begin(params, prompts, arguments):
    """A cache reads the positions before a row's first mask once, and the row's blocks share its steps."""
    random, plan = np.random.default_rng(0), Confidence(temperature=0.0, **arguments)
    text = random.integers(0, VOCABULARY, (2, 80))
    if prompts == "of several lengths":  # more than a bucket apart from the end of the longer one
        together, begins = left_padded([text[0].tolist(), text[1, :40].tolist()]), 40
    else:
        together, begins = text, 0
        together[0, 16:40] = together[1, 64] = VOCABULARY
    alone = together[1:, begins:]
    tokens, trace = sample(jax.random.key(0), network(), params, together, plan, 112)
    own, own_trace = sample(jax.random.key(0), network(), params, alone, plan, 112 - begins)
    np.testing.assert_array_equal(tokens[1, begins:], own[0])
    np.testing.assert_allclose(trace.log_probability[1, begins:], own_trace.log_probability[0], atol=1e-4)
    assert trace.evaluations[1] == own_trace.evaluations[0]


def test_rows_that_begin_in_blocks_keep_steps(params):
    rows = np.array(first_tokens()[:2])
    rows[0, 0] = rows[1, 1] = VOCABULARY
    _, trace = sample(jax.random.key(0), network(), params, rows, Confidence(block_size=4, steps=6), LENGTH)
    assert (trace.evaluations <= 6).all()


def test_guidance_of_minus_one_ignores_the_prompt(params):
    """Weight -1 leaves the logits without the prompt, so all rows with one key are the same."""
    plan = Confidence(temperature=0.0, guidance=-1.0)
    tokens, _ = sample(jax.random.key(1), network(), params, first_tokens(), plan, LENGTH)
    blank, _ = sample(jax.random.key(1), network(), params, first_tokens()[:, :0], plan._replace(guidance=0.0), LENGTH)
    assert (np.asarray(tokens)[:, 4:] == np.asarray(tokens)[:1, 4:]).all()
    plain, _ = sample(jax.random.key(1), network(), params, first_tokens(), plan._replace(guidance=0.0), LENGTH)
    assert (np.asarray(plain) != np.asarray(tokens)).any() and blank.shape == tokens.shape


def test_suppressed_tokens_never_come_delayed_ones_late(params):
    wild = {"temperature": 3.0}
    tokens, _ = run(params, suppress=(0, 1, 2), **wild)
    assert (np.asarray(tokens)[:, 4:] > 2).all()
    delayed = (0, 1, 2, 3, 4, 5)
    many = jnp.tile(first_tokens(), (50, 1))
    tokens, trace = sample(jax.random.key(3), network(), params, many, Confidence(delay=delayed, **wild), LENGTH)
    tokens, step = np.asarray(tokens)[:, 4:], np.asarray(trace.step)[:, 4:]
    late = np.isin(tokens, delayed)
    # what waits is drawn anew in every step: the last position takes what comes, and no delayed one comes with others
    # left
    assert late.any() and (step[late] > step.max() / 2).mean() > step[~late].mean() / step.max()


def test_certain_delayed_token_still_comes(params):
    head = jnp.where(jnp.arange(VOCABULARY) == 3, 9.0, 0.0)
    certain = network()._replace(head=lambda params, hidden: jnp.broadcast_to(head, (*hidden.shape[:-1], VOCABULARY)))
    plan = Confidence(temperature=0.0, delay=(3,), anneal=1.0)
    tokens, _ = sample(jax.random.key(0), certain, params, first_tokens(), plan, LENGTH)
    assert (np.asarray(tokens)[:, 4:] == 3).all()


def test_blocks_after_the_stop_token_are_filled(params):
    many = jnp.tile(first_tokens(), (20, 1))
    plan = Confidence(temperature=3.0, block_size=4)
    free, _ = sample(jax.random.key(3), network(), params, many, plan, 20)
    stop = int(np.bincount(np.asarray(free)[:, 4:].ravel()).argsort()[-4])
    tokens, trace = sample(jax.random.key(3), network(), params, many, plan._replace(stop=stop), 20)
    blocks = np.asarray(tokens)[:, 4:].reshape(len(many), -1, 4)
    ended = (blocks == stop).any(axis=2)
    first = np.where(ended.any(axis=1), ended.argmax(axis=1), blocks.shape[1] - 1)
    assert len(set(first)) > 1
    for row, last, evaluations in zip(blocks, first, np.asarray(trace.evaluations), strict=True):
        assert (row[last + 1 :] == stop).all() and evaluations == 4 * (last + 1)


def test_infilling_has_the_conditional_distribution():
    prompt = jnp.broadcast_to(jnp.array([V, 1, V]), (ROWS, L))
    tokens, _ = sample(jax.random.key(11), oracle(), (), prompt, Confidence(confidence="random"), L)
    follows = all_states()[:, 1] == 1
    assert counts(tokens)[~follows].sum() == 0
    assert chisquare(counts(tokens)[follows], ROWS * toy_joint()[follows] / toy_joint()[follows].sum()).pvalue > RARE


def test_guidance_draws_from_its_distribution():
    """With two positions to draw in random order each token has the distribution p(. | all)^(w + 1) / p(. | all but the
    prompt)^w.

    The network knows both, as one that was trained with dropped prompts does.
    """
    weight, given = 1.5, 1
    prompt = jnp.broadcast_to(jnp.array([V, given, V]), (ROWS, L))
    plan = Confidence(confidence="random", guidance=weight)
    tokens = np.asarray(sample(jax.random.key(12), oracle(), (), prompt, plan, L)[0])

    def guided(first, last, position):
        probs = (
            conditionals()[first, given, last, position] ** (weight + 1)
            / conditionals()[first, V, last, position] ** weight
        )
        return probs / probs.sum()

    expected = np.zeros((V, V))
    for first, last in itertools.product(range(V), repeat=2):
        from_left = guided(V, V, 0)[first] * guided(first, V, 2)[last]
        from_right = guided(V, V, 2)[last] * guided(V, last, 0)[first]
        expected[first, last] = (from_left + from_right) / 2
    observed = np.zeros((V, V))
    np.add.at(observed, (tokens[:, 0], tokens[:, 2]), 1)
    assert (tokens[:, 1] == given).all()
    assert chisquare(observed.ravel(), ROWS * expected.ravel()).pvalue > RARE
