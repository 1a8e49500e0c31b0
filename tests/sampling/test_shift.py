"""Networks whose positions predict the next token, with masks: Dream's whole rows and Fast-dLLM v2's blocks.

Both are compared with plain loops over the network: without a start symbol, and without the sampler's code.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling import Ancestral, Confidence, Trained, left_padded, sample
from mdlm_jax.sampling.blocks import causal_blocks
from mdlm_jax.sampling.network import reading

V, LENGTH, BLOCK, SUB = 11, 24, 8, 4


@functools.cache
def network():
    return transformer(Architecture(V, 2, 32, 4, 2, 48), Execution(use_segments=False))


DREAM = Trained(shift=True, reads_start=False)
FAST_V2 = DREAM._replace(block_size=BLOCK)


def first_tokens():
    return np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture(autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(3)

    def drawn(path, leaf):
        is_scale = "scale" in jax.tree_util.keystr(path)
        return jnp.asarray(is_scale + 0.3 * random.normal(size=leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(network().init, jax.random.key(0)))


@jax.jit
def _hidden(params, tokens, cache, first):
    positions = (first + jnp.arange(tokens.shape[1]))[None, :, None]
    view = reading(tokens, positions, positions, jnp.zeros(1))
    mask = full if cache is None else causal_blocks(BLOCK)
    cache = None if cache is None else cache._replace(length=first)
    hidden, cache = network().hidden(params, view, mask, cache=cache)
    return jax.nn.softmax(network().head(params, hidden)[0]), cache


def forward(params, tokens, cache=None, first=0):
    """Probabilities of the token after each position, and the cache."""
    return _hidden(params, jnp.asarray(tokens, jnp.int32)[None], cache, jnp.int32(first))


def shifted(probs):
    """Position i is predicted by position i - 1, the first by itself."""
    return np.concatenate([probs[:1], probs[:-1]])


def dream(params, prompt, steps):
    """Greedy, one block, as many of the highest probabilities a step as LLaDA plans."""
    row = np.concatenate([prompt, np.full(LENGTH - len(prompt), V)])
    num_masked = (row == V).sum()
    for step in range(steps):
        probs = shifted(np.asarray(forward(params, row)[0]))
        order = np.argsort(np.where(row == V, -probs.max(axis=1), np.inf), kind="stable")
        count = num_masked // steps + (step < num_masked % steps)
        row[order[:count]] = probs.argmax(axis=1)[order[:count]]
    return row


@pytest.mark.parametrize("steps", [19, 7])
def test_rows_are_predicted_from_the_position_before(params, steps):
    sampler = Confidence(temperature=0.0, steps=steps)
    tokens, _ = sample(jax.random.key(0), network(), params, first_tokens(), sampler, LENGTH, DREAM)
    for row, prompt in zip(tokens, first_tokens(), strict=True):
        np.testing.assert_array_equal(row, dream(params, prompt, steps))
    # a start symbol that is seen changes them
    seen = DREAM._replace(reads_start=True)
    other, _ = sample(jax.random.key(0), network(), params, first_tokens(), sampler, LENGTH, seen)
    assert (other != tokens).any()


@pytest.mark.parametrize(
    "cache",
    [
        {"cache": "dual", "block_size": 1},
        {"cache": "prefix", "block_size": 1},
        {"cache": "features", "prompt_interval": 1, "response_interval": 1},
    ],
)
def test_always_fresh_cache_changes_nothing(params, cache):
    block = {"block_size": cache.get("block_size")}
    plain, _ = sample(
        jax.random.key(0), network(), params, first_tokens(), Confidence(temperature=0.0, **block), LENGTH, DREAM
    )
    cached, _ = sample(
        jax.random.key(0), network(), params, first_tokens(), Confidence(temperature=0.0, **cache), LENGTH, DREAM
    )
    np.testing.assert_array_equal(cached, plain)


@pytest.mark.few(1)
@pytest.mark.parametrize("sampler", [Ancestral(steps=6), Confidence(guidance=0.5)])
@pytest.mark.parametrize("reads_start", [True, False])
def test_padded_rows_match_shorter_rows(params, sampler, reads_start):
    trained = DREAM._replace(reads_start=reads_start)
    prompts = left_padded([first_tokens()[0].tolist(), first_tokens()[1, :3].tolist()])
    tokens, trace = sample(jax.random.key(1), network(), params, prompts, sampler, LENGTH, trained)
    alone, own = sample(
        jax.random.key(1), network(), params, np.tile(first_tokens()[1:, :3], (2, 1)), sampler, LENGTH - 2, trained
    )
    np.testing.assert_array_equal(tokens[1, 2:], alone[1])
    np.testing.assert_allclose(trace.log_probability[1, 2:], own.log_probability[1], atol=1e-5)


def fast_v2(params, prompt, limit, cached):
    """Fast-dLLM v2: blocks whose first token is the likeliest, sub-blocks, and a block cache that is made anew while
    the sub-block's first token is a mask. Returns the row."""
    row, cache, last = (
        np.concatenate([prompt, np.full(LENGTH - len(prompt), V)]),
        network().empty_cache(1, LENGTH),
        None,
    )
    for start in range(0, LENGTH, BLOCK):
        here = slice(start, start + BLOCK)
        if row[start] == V:
            row[start] = last.argmax()
        kept, fresh = cache, None
        for sub in range(start, start + BLOCK, SUB):
            part = slice(sub, sub + SUB)
            while (row[part] == V).any():
                if not cached or fresh is None or row[sub] == V:
                    probs, fresh = forward(params, row[here], kept, start)
                    probs = shifted(np.asarray(probs))[sub - start : sub - start + SUB]
                else:
                    probs, fresh = forward(params, row[part], fresh, sub)
                    probs = shifted(np.asarray(probs))
                masked = row[part] == V
                sure = np.where(masked, probs.max(axis=1), -1)
                chosen = masked & ((sure > limit) | (np.arange(SUB) == sure.argmax()))
                row[part] = np.where(chosen, probs.argmax(axis=1), row[part])
        probs, cache = forward(params, row[here], cache, start)
        last = np.asarray(probs)[-1]
    return row


@pytest.mark.few(2)
@pytest.mark.parametrize("limit", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("cache", ["none", "sub_block"])
def test_fast_dllm_v2_blocks(params, cache, limit):
    """The sampler matches the plain loop with and without the sub-block cache."""
    sampler = Confidence(temperature=0.0, rule="dynamic", limit=limit, block_size=SUB, cache=cache, lead=True)
    tokens, _ = sample(jax.random.key(0), network(), params, first_tokens(), sampler, LENGTH, FAST_V2)
    for row, prompt in zip(np.asarray(tokens), first_tokens(), strict=True):
        np.testing.assert_array_equal(row, fast_v2(params, prompt, limit, cache == "sub_block"))


def test_lead_and_cache_change_the_tokens(params):
    sampler = Confidence(temperature=0.0, rule="dynamic", limit=0.3, block_size=SUB, lead=True)
    many = np.random.default_rng(0).integers(0, V, (16, 5))

    def drawn(sampler):
        return np.asarray(sample(jax.random.key(0), network(), params, many, sampler, LENGTH, FAST_V2)[0])

    tokens = drawn(sampler)
    assert (drawn(sampler._replace(lead=False)) != tokens).any()
    assert (drawn(sampler._replace(cache="sub_block")) != tokens).any()


@pytest.mark.slow
def test_sub_block_rows_do_not_depend_on_batch(params):
    sampler = Confidence(rule="dynamic", limit=0.4, block_size=SUB, cache="sub_block", lead=True)
    together, trace = sample(jax.random.key(2), network(), params, first_tokens(), sampler, LENGTH, FAST_V2)
    alone, own = sample(jax.random.key(2), network(), params, first_tokens()[:1], sampler, LENGTH, FAST_V2)
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(trace.evaluations[:1], own.evaluations)


@pytest.mark.parametrize("field", [{"lead": True}, {"cache": "sub_block"}])
def test_fast_dllm_v2_options_are_refused_elsewhere(params, field):
    with pytest.raises(UserError, match="accepted for networks trained in blocks with a shift"):
        sample(jax.random.key(0), network(), params, first_tokens(), Confidence(**field), LENGTH, DREAM)


def test_first_token_is_required_without_start_symbol(params):
    prompt = first_tokens().copy()
    prompt[0, 0] = V
    with pytest.raises(UserError, match="accepted: a first token in every row"):
        sample(jax.random.key(0), network(), params, prompt, Confidence(), LENGTH, DREAM)
