"""Quality of text against what is known exactly: rows by hand, the loss of `ar`, and Markov chains in closed form."""

import functools
import math
from functools import cache, partial

import jax
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.data.markov import entropy_rate, markov_chain, sample_rows
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.judge import judge_tokens
from mdlm_jax.evaluation.likelihood import evaluate
from mdlm_jax.evaluation.quality import (
    Estimate,
    distinct,
    measure,
    negative_log_likelihood,
    source_divergence,
    source_nll,
    unigram_entropy,
)
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.autoregressive import ar, ar_without_start

V, LENGTH = 7, 12


@functools.cache
def network():
    return transformer(Architecture(V, 1, 16, 2, 2, 24), Execution())


@functools.cache
def chain():
    return markov_chain(6, 0.8, seed=0)


@functools.cache
def other_chain():
    return markov_chain(6, 0.8, seed=1)


@cache
def params():
    """Far from uniform, so that the context matters."""
    return jax.tree.map(lambda leaf: 2.0 * leaf, jax.jit(network().init)(jax.random.key(0)))


def rows(count, length=LENGTH):
    return np.random.default_rng(count).integers(0, V, (count, length), np.int32)


def text(chain, count, length=64, seed=0):
    return sample_rows(*chain, (seed, 0), np.arange(count), length)


def judge(tokens, context=LENGTH, reads_start=True):
    return negative_log_likelihood(network(), params(), tokens, context, reads_start)


def test_entropy_of_known_rows():
    tokens = np.array([[0, 0, 0, 0], [0, 1, 2, 3], [5, 5, 6, 6]])
    each = np.array([0, math.log(4), math.log(2)])
    found = unigram_entropy(tokens, V)
    np.testing.assert_allclose(found, (each.mean(), each.std(ddof=1) / math.sqrt(3)), rtol=1e-12)
    # what was given is not counted
    drawn = np.array([[False, True, True, True]] * 2)
    assert unigram_entropy(tokens[:2], V, drawn).value == pytest.approx(math.log(3) / 2)


def test_distinct_by_hand():
    tokens = np.array([[0, 1, 0, 1], [1, 0, 2, 2]])
    assert [distinct(tokens, n).value for n in (1, 2, 3, 4)] == [3 / 8, 4 / 6, 4 / 4, 2 / 2]
    drawn = np.array([[False, True, True, True], [True, True, False, True]])
    assert distinct(tokens, 2, drawn).value == 2 / 3  # 10, 01; 10
    assert math.isnan(distinct(tokens, 5).value) and math.isnan(distinct(tokens, 4, drawn).value)


def test_distinct_error_is_a_jackknife():
    tokens = rows(9, 5)
    without = np.array([distinct(np.delete(tokens, row, axis=0), 2).value for row in range(9)])
    error = math.sqrt(8 / 9 * ((without - without.mean()) ** 2).sum())
    assert distinct(tokens, 2).standard_error == pytest.approx(error, rel=1e-12)


@pytest.mark.parametrize("reads_start", [True, False])
def test_judge_reproduces_its_training_loss(reads_start, monkeypatch):
    tokens = rows(5)
    prompt_mask = np.zeros(tokens.shape, bool)
    prompt_mask[:, 0] = not reads_start
    objective = (ar if reads_start else ar_without_start)(V)
    loss = evaluate(
        *(network(), objective, params(), (), Example(tokens, np.ones_like(tokens), prompt_mask)),
        draws=1,
        batch_size=5,
        chunk=LENGTH,
    )
    nats = judge(tokens, LENGTH if reads_start else LENGTH - 1, reads_start)
    assert nats.dtype == np.float32 and np.isnan(nats).sum() == (0 if reads_start else 5)
    assert np.nanmean(nats) == pytest.approx(loss.nats_per_token, rel=1e-6)
    # in batches of two, the last of which has one row
    monkeypatch.setattr("mdlm_jax.evaluation.quality.POSITIONS", 2 * LENGTH)
    np.testing.assert_allclose(judge(tokens, reads_start=reads_start), nats, rtol=1e-5)


@pytest.mark.parametrize(("context", "length"), [(6, 16), (5, 14), (6, 9), (1, 3)])
@pytest.mark.parametrize("reads_start", [True, False])
def test_windows_match_training_rows(context, length, reads_start):
    """Every token has the nats of one whole window that ends at or after it, with half a context of text before it."""
    tokens, first = rows(3, length), int(not reads_start)
    nats, width = judge(tokens, context, reads_start), min(context + first, length)
    windows = {
        start: judge(tokens[:, start : start + width], context, reads_start) for start in range(length - width + 1)
    }
    np.testing.assert_allclose(nats[:, :width], windows[0][:, :width], rtol=1e-5)
    for position in range(width, length):
        starts = range(max(position - width + 1, 0), min(position - context // 2, length - width) + 1)
        assert any(np.allclose(nats[:, position], windows[start][:, position - start], rtol=1e-5) for start in starts)


def test_nats_depend_only_on_the_window():
    """A token's nats depend on the earlier tokens of its window alone."""
    tokens = rows(2, 16)
    nats, changed = judge(tokens, 8), tokens.copy()
    changed[:, 5] = (changed[:, 5] + 1) % V
    differs = (judge(changed, 8) != nats).all(axis=0)
    # windows begin at 0, 4 and 8: the last four tokens do not see position 5
    np.testing.assert_array_equal(differs, (np.arange(16) >= 5) & (np.arange(16) < 12))


def test_source_likelihood_multiplies_transitions():
    stationary, transitions = chain()
    tokens = text(other_chain(), 4, 9)
    for row, found in zip(tokens, source_nll(tokens, *chain()), strict=True):
        p = stationary[row[0]] * math.prod(transitions[a, b] for a, b in zip(row[:-1], row[1:], strict=True))
        assert found == pytest.approx(-math.log(p) / 9, rel=1e-12)


def test_impossible_text_costs_infinity():
    cycle = np.full(4, 0.25), np.roll(np.eye(4), 1, axis=1)
    tokens = np.array([[0, 1, 2, 3], [0, 2, 3, 3]])
    np.testing.assert_allclose(source_nll(tokens, *cycle), [math.log(4) / 4, math.inf])
    found = measure(tokens, np.ones(tokens.shape, bool), 4, source=cycle)
    assert found.source_nats.value == found.divergence.value == math.inf and found.impossible == 2
    assert math.isnan(found.source_nats.standard_error) and math.isnan(found.divergence.standard_error)
    np.testing.assert_allclose(measure(tokens[:1], tokens[:1] >= 0, 4, source=cycle).divergence.value, 0, atol=1e-12)


def test_source_has_no_divergence_from_itself():
    """Without the bias correction all 40 texts would seem to diverge. The error covers the estimates."""
    found = [source_divergence(text(chain(), 16, seed=seed), chain()[1]) for seed in range(40)]
    values, errors = np.array(found).T
    assert abs(values.mean()) < 3 * values.std(ddof=1) / math.sqrt(40)
    assert 3 * values.std() < 30 / (2 * 16 * 63)  # the bias, 6 x 5 free numbers over 2 N pairs
    assert (np.abs(values) < 2 * errors).mean() > 0.9
    assert 1 < errors.mean() / values.std() < 2  # 2^(1/2) too large, as said


def test_divergence_of_another_chain():
    """The rate is sum_i pi_i sum_j Q_ij log(Q_ij / P_ij), and the error is the spread over texts."""
    exact = other_chain()[0] @ (other_chain()[1] * np.log(other_chain()[1] / chain()[1])).sum(axis=1)
    found = [source_divergence(text(other_chain(), 32, seed=seed), chain()[1]) for seed in range(40)]
    values, errors = np.array(found).T
    assert abs(values.mean() - exact) < 3 * values.std(ddof=1) / math.sqrt(40) < 0.03 * exact
    assert (np.abs(values - exact) < 2 * errors).mean() > 0.85
    assert 0.7 < errors.mean() / values.std(ddof=1) < 1.4


def test_measures_only_the_drawn_tokens():
    """Drawn tokens are measured given the prompt before them."""
    tokens = text(other_chain(), 8, LENGTH)
    drawn = np.tile(np.arange(LENGTH) >= 4, (8, 1))
    found = measure(tokens, drawn, V, judge=partial(judge_tokens, judge, None), source=chain())
    after = -np.log(chain()[1])[tokens[:, 3:-1], tokens[:, 4:]]
    assert (found.rows, found.tokens, found.impossible) == (8, 64, 0)
    assert found.source_nats.value == pytest.approx(after.mean())
    assert found.source_nats.standard_error == pytest.approx(after.mean(axis=1).std(ddof=1) / math.sqrt(8))
    assert found.source_entropy == pytest.approx(entropy_rate(*chain()))
    assert found.divergence == pytest.approx(source_divergence(tokens[:, 3:], chain()[1]))
    assert found.entropy == unigram_entropy(tokens[:, 4:], V) and found.distinct_2 == distinct(tokens[:, 4:], 2)
    assert found.judge_nats.value == pytest.approx(judge(tokens)[:, 4:].mean())
    assert found.perplexity == pytest.approx(math.exp(found.judge_nats.value))


def test_source_text_costs_its_entropy():
    tokens = text(chain(), 400)
    found = measure(tokens, np.ones(tokens.shape, bool), 6, source=chain())
    assert abs(found.source_nats.value - found.source_entropy) < 3 * found.source_nats.standard_error < 0.03
    assert found.judge_nats is None and found.perplexity is None


def test_first_token_without_distribution_is_left_out():
    tokens = rows(4)
    nats = judge(tokens, reads_start=False)
    found = measure(tokens, np.ones(tokens.shape, bool), V, judge=partial(judge_tokens, lambda tokens: nats, None))
    assert found.judge_nats.value == pytest.approx(nats[:, 1:].mean())


def test_missing_values_are_nan():
    """One row has no error, and a text without drawn tokens has no value."""
    tokens = rows(1)
    assert math.isfinite(unigram_entropy(tokens, V).value) and math.isnan(unigram_entropy(tokens, V).standard_error)
    nothing = measure(
        tokens,
        np.zeros(tokens.shape, bool),
        V,
        judge=partial(judge_tokens, judge, None),
        source=markov_chain(V, 1.0, 0),
    )
    for value in nothing:
        assert not isinstance(value, Estimate) or math.isnan(value.value)


def test_unmeasurable_input_is_refused():
    for bad in (-1, V):
        with pytest.raises(UserError, match=f"token {bad} is outside the vocabulary; accepted: 0 to 6"):
            judge(np.array([[0, bad]]))
    with pytest.raises(UserError, match="context 0: accepted is 1 or more"):
        judge(rows(1), context=0)
