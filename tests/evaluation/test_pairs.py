"""Likelihood of answers given prompts, against the network's own log-softmax and against enumeration."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.evaluation.pairs import pair_nats
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES, block
from mdlm_jax.objectives.any_order import mask_tokens
from mdlm_jax.objectives.base import full
from mdlm_jax.schedules import linear

V, L = 5, 8


@functools.cache
def network():
    """A network and parameters that are far from uniform, so that prompts and orders matter."""
    model = transformer(Architecture(V, 1, 8, 2, 2, 16), Execution())
    return model, jax.tree.map(lambda leaf: 1.5 * leaf, jax.jit(model.init)(jax.random.key(0)))


def pairs(count: int) -> Example:
    """Prompts of 0 to 3 tokens, answers of 1 to 4, and padding."""
    random = np.random.default_rng(1)
    tokens = random.integers(0, V, (count, L), np.int32)
    prompt = random.integers(0, 4, (count, 1))
    end = prompt + random.integers(1, 5, (count, 1))
    position = np.arange(L)
    return Example(tokens, (position < end).astype(np.int32), position < prompt)


def objective(name):
    return OBJECTIVES[name](V, linear()) if name == "masked" else OBJECTIVES[name](V)


def found_of(name, rows, draws, guidance=None):
    model, params = network()
    made = objective(name) if isinstance(name, str) else name
    return pair_nats(model, made, params, (), rows, draws=draws, batch_size=16, chunk=L, guidance=guidance)


def log_softmax(view, mask):
    model, params = network()
    return jax.nn.log_softmax(model.head(params, model.hidden(params, view, mask)[0]))


def mixed(with_prompt, without, weight):
    """log of p_c^(1 + w) / p_u^w, renormalised."""
    return jax.nn.log_softmax((1 + weight) * with_prompt - weight * without)


def ar_nats(row: Example, guidance: float | None) -> float:
    """One row without its padding, read by itself."""
    end, first = int(row.segments.sum()), int(row.prompt_mask.sum())
    tokens = row.tokens[:end]

    def read(prompt):
        given = Example(jnp.asarray(np.append(prompt, tokens[first:])), jnp.ones(end, jnp.int32), row.prompt_mask[:end])
        return log_softmax(objective("ar").view((), jax.random.key(0), given, 0.0), objective("ar").mask)[0]

    logs = read(tokens[:first])
    if guidance is not None:
        logs = mixed(logs, read(np.full(first, V, np.int32)), guidance)
    return -float(sum(logs[position, tokens[position]] for position in range(first, end)))


def masked_nats(row: Example, guidance: float | None) -> float:
    """The mean over all orders of the answer, by all sets of masked tokens, without padding."""
    end, first = int(row.segments.sum()), int(row.prompt_mask.sum())
    length, tokens = end - first, jnp.asarray(row.tokens[:end])
    sets = np.array(list(itertools.product([False, True], repeat=length))[1:])
    masked = np.pad(sets, ((0, 0), (first, 0)))
    weight = [math.factorial(k - 1) * math.factorial(length - k) / math.factorial(length) for k in sets.sum(axis=1)]

    def read(tokens):
        given = Example(tokens, jnp.ones(end, jnp.int32), jnp.zeros(end, bool))
        views = [
            jax.tree.map(lambda field: field[0], mask_tokens(given, chosen, 1.0, V, jnp.ones(()))) for chosen in masked
        ]
        return log_softmax(jax.tree.map(lambda *fields: jnp.stack(fields), *views), full)

    logs = read(tokens)
    if guidance is not None:
        logs = mixed(logs, read(tokens.at[:first].set(V)), guidance)
    each = -np.take_along_axis(np.asarray(logs), np.asarray(tokens)[None, :, None], axis=2)[..., 0]
    return float((each * masked).sum(axis=1) @ weight)


@pytest.mark.few(1)
@pytest.mark.parametrize("guidance", [0.7, None, -1.0])
def test_ar_is_the_log_softmax_of_the_answer(guidance):
    rows = pairs(6)
    found = found_of("ar", rows, 128, guidance)
    expected = [ar_nats(Example(*(field[index] for field in rows)), guidance) for index in range(6)]
    np.testing.assert_allclose(found.nats, expected, rtol=2e-5)
    assert not found.standard_error.any()
    np.testing.assert_array_equal(found.tokens, rows.segments.sum(axis=1) - rows.prompt_mask.sum(axis=1))


@functools.cache
def enumerated(count: int, guidance: float | None) -> np.ndarray:
    rows = pairs(count)
    return np.array([masked_nats(Example(*(field[index] for field in rows)), guidance) for index in range(count)])


@pytest.mark.few(1)
@pytest.mark.parametrize(("name", "guidance"), [("masked", 0.7), ("masked", None), ("any_order", None)])
def test_bounds_agree_with_enumeration_and_their_errors_are_honest(name, guidance):
    """Misses are about one standard error each: an answer of one token has no noise."""
    count, draws = 24, 128
    found, expected = found_of(name, pairs(count), draws, guidance), enumerated(count, guidance)
    single = found.tokens == 1
    assert 0 < single.sum() < count / 2
    np.testing.assert_allclose(found.nats[single], expected[single], rtol=2e-5)
    assert found.standard_error[single].max() < 1e-5
    misses = ((found.nats - expected) / np.where(single, 1, found.standard_error))[~single]
    # 15 or so independent values of variance 1
    assert 0.6 < np.sqrt((misses**2).mean()) < 1.5 and np.abs(misses).max() < 4
    assert found.standard_error.max() < 0.06 * expected.max()


def test_guidance_of_weight_0_is_none_and_that_of_minus_1_does_not_see_the_prompt():
    rows = pairs(5)
    np.testing.assert_allclose(found_of("masked", rows, 4, 0.0).nats, found_of("masked", rows, 4).nats, rtol=1e-5)
    masked = rows._replace(tokens=np.where(rows.prompt_mask, V, rows.tokens))
    np.testing.assert_allclose(found_of("masked", rows, 4, -1.0).nats, found_of("masked", masked, 4).nats, rtol=1e-5)


def test_a_pair_does_not_depend_on_the_others():
    rows = pairs(5)
    few = Example(*(field[:2] for field in rows))
    found, alone = found_of("masked", rows, 4), found_of("masked", few, 4)
    np.testing.assert_allclose(found.nats[:2], alone.nats, rtol=1e-5)


def test_the_error_is_that_of_two_draws_in_each_stratum():
    """Nats that are the level itself: strata as wide as 1 / S, and the noise of each is what the pair reports."""
    base = objective("masked")

    def view(objective_params, key, example, u):
        drawn = base.view(objective_params, key, example, u)
        return drawn._replace(weight=jnp.zeros_like(drawn.weight), constant=u[None])

    found = found_of(base._replace(view=view, evaluate=None), pairs(400), 8)
    # a mean of 8 uniform draws, two in each of four strata: variance 1 / (12 4^2 8)
    exact = 1 / math.sqrt(12 * 4**2 * 8)
    np.testing.assert_allclose(np.sqrt((found.standard_error**2).mean()), exact, rtol=0.08)
    np.testing.assert_allclose((found.nats - 0.5).std(), exact, rtol=0.12)


def test_blocks_of_one_token_are_exact_whatever_the_draw():
    """A block of one token is masked or nothing is asked of it, so the bound is the chain rule and has no noise."""
    found = found_of(block(objective("any_order"), 1, L), pairs(6), 4)
    assert found.standard_error.max() < 1e-5 and (found.nats > 0).all()
