"""Decoding by confidence against what LLaDA's and Fast-dLLM's public code gave on a tiny model, token for token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.objectives.base import full
from mdlm_jax.sampling import Confidence, sample
from mdlm_jax.sampling.drawing import candidates
from mdlm_jax.sampling.network import Network, logits_of, new_cache, read, reading
from mdlm_jax.sampling.unmasking import CONFIDENCES, chosen
from tests import public_data
from tests.sampling.golden import EOS, EOT, llada

NEW = {
    "llada_full_32x32": {},
    "llada_semi_ar_b8_s32": {"block_size": 8},
    "llada_semi_ar_b8_s12_uneven": {"block_size": 8, "steps": 12},
    "llada_semi_ar_b8_s40_more_steps_than_tokens": {"block_size": 8, "steps": 40},
    "llada_gqa_b8_s16": {"block_size": 8, "steps": 16},
    "llada_batch2_b8_s16": {"block_size": 8, "steps": 16},
    "llada_cfg1.5_b8_s16": {"block_size": 8, "steps": 16, "guidance": 1.5},
    "llada_eos_off": {"steps": 16},
    "llada_eos_logits_inf": {"steps": 16, "suppress": (EOS,)},
    "llada_conf_eos_eot_inf_T0": {"steps": 16, "delay": (EOS, EOT)},
}
for cache, short in {"none": "nocache", "prefix": "prefix", "dual": "dual"}.items():
    NEW[f"fast_{short}_s32"] = {"block_size": 8, "cache": cache}
    NEW[f"fast_{short}_factor1.0"] = {"block_size": 8, "cache": cache, "rule": "factor", "limit": 1.0}
    for limit in (0.9, 0.6, 0.3):
        NEW[f"fast_{short}_thr{limit}"] = {"block_size": 8, "cache": cache, "rule": "threshold", "limit": limit}
del NEW["fast_prefix_thr0.6"]  # a near tie
NEW["fast_prefix_s12_uneven"] = {"block_size": 8, "steps": 12, "cache": "prefix"}
NEW["fast_dual_s12_uneven"] = {"block_size": 8, "steps": 12, "cache": "dual"}
NEW["fast_nocache_factor0.5"] = {"block_size": 8, "rule": "factor", "limit": 0.5}


@pytest.fixture(autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def golden():
    return public_data.golden("llada_fastdllm_v1")


def test_every_stable_case_is_covered(golden):
    _, description = golden
    stable = "stable_under_1e-6_weight_perturbation"
    whole = {name for name, case in description["cases"].items() if case.get(stable)}
    assert whole == set(NEW)


@pytest.mark.few(9)
@pytest.mark.parametrize("name", NEW)
def test_greedy_sequences(golden, name):
    arrays, description = golden
    model, params = llada(arrays, "wgqa" if "gqa" in name else "w")
    prompt = arrays["prompt2" if "batch2" in name else "prompt1"]
    plan = Confidence(temperature=0.0, **NEW[name])
    tokens, trace = sample(jax.random.key(0), model, params, prompt, plan, 43)
    np.testing.assert_array_equal(tokens, arrays[f"seq/{name}"])
    assert (trace.evaluations <= description["cases"][name]["forward_calls"]).all()


@pytest.mark.parametrize("prefix", ["w", "wgqa"])
def test_logits(golden, prefix):
    arrays, _ = golden
    model, params = llada(arrays, prefix)
    tokens = jnp.asarray(arrays["logits_in"], jnp.int32)
    positions = jnp.arange(tokens.shape[1])[None, :, None]
    out, _ = model.hidden(params, reading(tokens, positions, positions, jnp.zeros(1)), full)
    expected = arrays["logits_out" if prefix == "w" else "logits_out_gqa"]
    np.testing.assert_allclose(model.head(params, out), expected, atol=1e-4)  # 2e-5 is met on JAX 0.10, 0.12 misses it


@pytest.mark.parametrize(("cache", "width"), [("prefix", 16), ("dual", 8)])
def test_logits_with_stale_keys_and_values(golden, cache, width):
    """Two tokens of a block change after the whole row was read; the block is read again, alone or to the row's end."""
    arrays, _ = golden
    model, params = llada(arrays, "w")
    before, after = (jnp.asarray(arrays[name], jnp.int32) for name in ("logits_in", "stale_in"))
    network = Network(model, params, before)
    _, kept = read(network, new_cache(network), before, jnp.zeros(1))
    out, _ = read(network, kept, after, jnp.zeros(1), 11, width)
    np.testing.assert_allclose(logits_of(network, out), arrays[f"logits_{cache}_stale"], atol=1e-4)


RULES = {f"factor{limit}": ("factor", limit) for limit in (0.25, 0.5, 1.0, 1.5, 2.0)}
RULES |= {f"threshold{limit}": ("threshold", limit) for limit in (0.9, 0.8, 0.999)}
RULES |= {f"topk{count}": ("quota", count) for count in (1, 3)}


@pytest.mark.parametrize("name", RULES)
def test_rules(golden, name):
    arrays, _ = golden
    rule, number = RULES[name]
    for confidence, hidden, expected in zip(
        arrays["unit/conf"], arrays["unit/mask"], arrays[f"unit/{name}"], strict=True
    ):
        kept = chosen(
            rule, jnp.asarray(confidence, jnp.float32), jnp.asarray(hidden), jnp.int32(number), jnp.float32(number)
        )
        np.testing.assert_array_equal(kept, expected)


RECORDED = {
    "llada_T0.5": ("llada_T0.5", 0.5, ()),
    "llada_T1.0": ("llada_T1.0", 1.0, ()),
    "llada_random_remask": ("llada_random", 0.0, ()),
    # there, above temperature 0, the end of text is meant to be delayed and is not
    "llada_T1_confeos_buggy": ("llada_T1_confeos", 1.0, (EOT,)),
}


@pytest.mark.parametrize("name", RECORDED)
def test_sequences_with_recorded_noise(golden, name):
    """Two blocks of 8, four steps each: the pieces of a step, given the uniform draws of the public code."""
    arrays, _ = golden
    (noise, temperature, delay), (model, params) = RECORDED[name], llada(arrays, "w")
    tokens = jnp.concatenate([jnp.asarray(arrays["prompt1"], jnp.int32), jnp.full((1, 16), 128, jnp.int32)], axis=1)
    positions = jnp.arange(27)[None, :, None]
    for step, uniform in enumerate(arrays[f"noise/{noise}"]):
        block = slice(11, 19) if step < 4 else slice(19, 27)
        out, _ = model.hidden(params, reading(tokens, positions, positions, jnp.zeros(1)), full)
        logits, u = model.head(params, out)[0, block], jnp.asarray(uniform[0, block])
        gumbel = -jnp.log(-jnp.log(u)) if temperature else None
        drawn = candidates(gumbel, logits, jnp.float32(temperature), None, None)
        probs = jax.nn.softmax(logits.at[:, jnp.array(delay, jnp.int32)].set(-jnp.inf))
        sure = CONFIDENCES["probability"](jax.random.key(0), probs, drawn) if temperature else u
        kept = chosen("quota", sure, tokens[0, block] == 128, jnp.int32(2), jnp.float32(0))
        tokens = tokens.at[0, block].set(jnp.where(kept, drawn, tokens[0, block]))
    np.testing.assert_array_equal(tokens, arrays[f"seq/{name}"])


def test_prefix_cache_sequence_with_recorded_noise(golden):
    """Two blocks of 8, threshold 0.6. Fast-dLLM draws twice in all but a block's first step and uses the second."""
    arrays, _ = golden
    (model, params), name = llada(arrays, "w"), "fast_prefix_T1"
    calls = sum(key.startswith(f"noise/{name}/") for key in arrays)
    uniform = iter([arrays[f"noise/{name}/{call:03d}"] for call in range(calls)])
    tokens = jnp.concatenate([jnp.asarray(arrays["prompt1"], jnp.int32), jnp.full((1, 16), 128, jnp.int32)], axis=1)
    network = Network(model, params, tokens)
    for start in (11, 19):
        block, at, cache = slice(start, start + 8), 0, new_cache(network)
        while (tokens[0, block] == 128).any():
            out, cache = read(network, cache, tokens, jnp.zeros(1), at, 27 - at)
            here = slice(start - at, start - at + 8)
            if at:
                next(uniform)
            logits, u = logits_of(network, out)[0, here], jnp.asarray(next(uniform)[0, here])
            drawn = candidates(-jnp.log(-jnp.log(u)), logits, jnp.float32(1), None, None)
            sure = CONFIDENCES["probability"](jax.random.key(0), jax.nn.softmax(logits), drawn)
            kept = chosen("threshold", sure, tokens[0, block] == 128, jnp.int32(0), jnp.float32(0.6))
            tokens, at = tokens.at[0, block].set(jnp.where(kept, drawn, tokens[0, block])), start
    np.testing.assert_array_equal(tokens, arrays[f"seq/{name}_thr0.6"])
    assert not list(uniform)
