"""Samplers inside the blocks of a network that was trained in blocks: what is kept of finished blocks is exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Cache, Execution, transformer
from mdlm_jax.objectives.block import block_mask
from mdlm_jax.objectives.parameterizations import score
from mdlm_jax.processes.mixture import uniform
from mdlm_jax.sampling import Ancestral, Confidence, FirstHitting, Remasking, Reverse, Trained, left_padded, sample
from mdlm_jax.sampling.network import reading
from mdlm_jax.schedules import linear
from tests.sampling.toys import RARE, L, counts, oracle, toy_joint

LENGTH, SIZE, VOCABULARY = 12, 4, 11


@functools.cache
def network():
    return transformer(Architecture(VOCABULARY, 2, 32, 4, 2, 48, time_conditioning=True), Execution(scan_layers=True))


def first_tokens():
    return jax.random.randint(jax.random.key(2), (3, 5), 0, VOCABULARY)


BLOCKS = Trained(block_size=SIZE)
SAMPLERS = {
    "ancestral": Ancestral(steps=9),
    "first_hitting": FirstHitting(top_p=0.9),
    "static": Confidence(steps=6),
    "dynamic": Confidence(rule="dynamic", limit=0.15, steps=6),
    "threshold": Confidence(rule="threshold", limit=0.15, stop=3),
    "sub-blocks": Confidence(block_size=2),
    "guided": Confidence(guidance=1.5, guidance_ramp=True),
    "remasking": Remasking(steps=12, eta=0.3),
    "dual": Confidence(block_size=2, cache="dual", rule="threshold", limit=0.0),
    "shifted": Confidence(steps=6),
}


def drawn(params, name, prompt=None, model=None, key=0):
    prompt, model = first_tokens() if prompt is None else prompt, model or network()
    trained = BLOCKS._replace(shift=name == "shifted")
    return sample(jax.random.key(key), model, params, prompt, SAMPLERS[name], LENGTH, trained)


@pytest.fixture(scope="module")
def params():
    """Far from the start, where adaLN is zero."""
    noise = iter(jax.random.split(jax.random.key(9), 99))
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(next(noise), leaf.shape), jax.jit(network().init)(jax.random.key(1))
    )


def forgetful(model):
    """The model without keys and values: what it keeps is the tokens, and it reads all of a row every time."""

    def hidden(params, view, mask, cache=None):
        def put(old, new):
            new = jnp.broadcast_to(new, (*view.tokens.shape,)) if new.ndim < 3 else new
            return jax.lax.dynamic_update_slice_in_dim(old, new, cache.length, axis=1)

        tokens, t = (put(old, new) for old, new in zip(cache.layers, (view.tokens, view.t), strict=True))
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None, :, None], (*tokens.shape, 1))
        whole = reading(tokens, positions, positions, jnp.zeros(len(tokens)))._replace(t=t)
        out, _ = model.hidden(params, whole, mask)
        num_read = view.tokens.shape[1]
        out = jax.lax.dynamic_slice_in_dim(out, cache.length, num_read, axis=1)
        return out, Cache((tokens, t), cache.length + num_read)

    def empty_cache(batch, positions):
        return Cache((jnp.zeros((batch, positions), jnp.int32), jnp.zeros((batch, positions))), jnp.int32(0))

    return model._replace(hidden=hidden, empty_cache=empty_cache)


@functools.cache
def forgetful_network():
    return forgetful(network())


def scores(objective_params):
    return score(uniform(VOCABULARY, linear()))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", SAMPLERS)
def test_cached_blocks_change_nothing(params, name):
    """A network that keeps tokens instead of keys and values gives the same samples."""
    tokens, trace = drawn(params, name)
    plain, plain_trace = drawn(params, name, model=forgetful_network())
    np.testing.assert_array_equal(tokens, plain)
    np.testing.assert_array_equal(trace.step, plain_trace.step)
    np.testing.assert_array_equal(trace.evaluations, plain_trace.evaluations)
    np.testing.assert_allclose(trace.log_probability, plain_trace.log_probability, atol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_do_not_depend_on_their_batch(params, name):
    together, trace = drawn(params, name)
    alone, trace_alone = drawn(params, name, first_tokens()[:1])
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(trace.evaluations[:1], trace_alone.evaluations)
    np.testing.assert_array_equal(together[:, :5], first_tokens())


def test_steps_draw_from_the_training_distribution(params):
    """[x_t ; x_0] through the mask of training, at the noise level of the step."""
    tokens, trace = drawn(params, "ancestral", key=4)
    start = LENGTH - SIZE  # the last block: its steps are behind all others
    steps = np.asarray(trace.step)[:, start:]
    for row in range(len(first_tokens())):
        for step in sorted(set(steps[row])):
            noised = np.where(np.arange(LENGTH) < start, 0, VOCABULARY)
            noised[start:] = np.where(steps[row] < step, tokens[row, start:], VOCABULARY)
            shown = jnp.concatenate([jnp.asarray(noised), tokens[row]])[None]
            positions = jnp.tile(jnp.arange(LENGTH), 2)[None, :, None]
            # which of the three steps of a block this was is in no trace: one of their times has the logits
            found = []
            for t in (1.0, 2 / 3, 1 / 3):
                times = jnp.concatenate([jnp.full(LENGTH, t), jnp.zeros(LENGTH)])[None]
                view = reading(shown, positions, positions, jnp.zeros(1))._replace(t=times)
                out, _ = network().hidden(params, view, block_mask(SIZE, LENGTH))
                probs = jax.nn.log_softmax(network().head(params, out[:, :LENGTH]))[0]
                now = start + np.flatnonzero(steps[row] == step)
                said = probs[now, tokens[row, now]]
                found.append(np.allclose(said, trace.log_probability[row, now], atol=1e-4))
            assert any(found)


@pytest.mark.few(1)
@pytest.mark.parametrize("sampler", ["posterior", "euler"])
def test_processes_run_backwards_in_blocks(params, sampler):
    plan, trained = Reverse(sampler, steps=6), BLOCKS._replace(parameterization=scores)
    tokens, trace = sample(jax.random.key(0), network(), params, first_tokens(), plan, LENGTH, trained)
    np.testing.assert_array_equal(tokens[:, :5], first_tokens())
    # two blocks of two steps, the prompt, and the first block when it is done
    np.testing.assert_array_equal(trace.evaluations, 6)
    plain, _ = sample(jax.random.key(0), forgetful_network(), params, first_tokens(), plan, LENGTH, trained)
    np.testing.assert_array_equal(tokens, plain)


def test_evaluations_match_the_algorithm(params):
    """One for the prompt; the two blocks have three and four masks, and the first is read once more."""
    _, trace = drawn(params, "first_hitting")
    np.testing.assert_array_equal(trace.evaluations, 1 + 3 + 1 + 4)
    _, trace = drawn(params, "first_hitting", first_tokens()[:, :0])
    np.testing.assert_array_equal(trace.evaluations, 3 * 4 + 2)


def test_one_block_of_all_tokens_gives_the_joint():
    blind = oracle()._replace(hidden=lambda params, view, mask, cache: (oracle().hidden(params, view, mask)[0], cache))
    tokens, _ = sample(
        jax.random.key(0), blind, (), jnp.zeros((20_000, 0), int), FirstHitting(), L, Trained(block_size=L)
    )
    assert chisquare(counts(tokens), 20_000 * toy_joint()).pvalue > RARE


@pytest.mark.slow
@pytest.mark.parametrize("shift", [False, True])
def test_prefix_cache_keeps_what_precedes_a_sub_block(params, shift):
    """Positions are counted alike in every block: a text of one block has the nats of the same text as the second
    block, where nothing before it can be seen."""
    # of masks alone all positions are as sure: rounding would choose
    plan = Confidence(block_size=2, cache="prefix", temperature=0.0, steps=8, confidence="left")
    trained = Trained(block_size=8, shift=shift)
    blind = network()._replace(
        hidden=lambda params, view, mask, cache: network().hidden(params, view, alone(8, shift), cache)
    )
    _, one = sample(jax.random.key(0), blind, params, jnp.zeros((1, 0), int), plan, 8, trained)
    second = first_tokens()[:1].repeat(2, axis=1)[:, :8]
    _, two = sample(jax.random.key(0), blind, params, second, plan._replace(steps=16), 16, trained)
    if not shift:  # else the first token follows another one
        np.testing.assert_allclose(one.log_probability[0], two.log_probability[0, 8:], atol=1e-5)
    _, dual = sample(jax.random.key(0), blind, params, jnp.zeros((1, 0), int), plan._replace(cache="dual"), 8, trained)
    assert np.abs(one.log_probability - dual.log_probability).max() > 1e-4


def alone(size, shift):
    """A block sees itself alone."""

    def mask(query, key):
        return (key - shift) // size == (query - shift) // size

    return mask


def test_rows_count_only_their_own_evaluations(params):
    long, blank = jnp.arange(8)[None], jnp.full((1, 8), VOCABULARY)
    _, company = drawn(params, "first_hitting", jnp.concatenate([long, blank]))
    _, single = drawn(params, "first_hitting", long)
    np.testing.assert_array_equal(company.evaluations[:1], single.evaluations)
    np.testing.assert_array_equal(company.step[:1], single.step)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["static", "first_hitting", "shifted"])
def test_prompts_of_mixed_lengths_match_single_rows(params, name):
    """Padding that is no whole block, and a length that ends inside one."""
    prompts, length = left_padded([first_tokens()[0].tolist(), first_tokens()[1, :2].tolist()]), 11
    trained = BLOCKS._replace(shift=name == "shifted")
    sampler = SAMPLERS[name] if name == "first_hitting" else SAMPLERS[name]._replace(steps=None)
    tokens, trace = sample(jax.random.key(1), network(), params, prompts, sampler, length, trained)
    np.testing.assert_array_equal(tokens[:, :5], prompts)
    for row, given in ((0, first_tokens()[:1]), (1, first_tokens()[1:2, :2])):
        begins = 5 - given.shape[1]
        both = np.tile(given, (2, 1))
        alone, own = sample(jax.random.key(1), network(), params, both, sampler, length - begins, trained)
        np.testing.assert_array_equal(tokens[row, begins:], alone[row])
        np.testing.assert_array_equal(trace.step[row, begins:], own.step[row])
        np.testing.assert_allclose(trace.log_probability[row, begins:], own.log_probability[row], atol=1e-5)
