"""Networks trained in blocks, against what SDAR's and BD3-LM's public code gave on tiny models, token for token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.models.attention import allowed
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import View, cross_entropy
from mdlm_jax.objectives.block import block_mask
from mdlm_jax.sampling import Confidence, Trained, sample, unmasking
from mdlm_jax.sampling.blocks import causal_blocks
from mdlm_jax.sampling.drawing import candidates, filtered
from mdlm_jax.sampling.network import Network, logits_of, new_cache, read, reading
from mdlm_jax.schedules import linear, logarithmic, noise_rate, polynomial, square_root
from tests import public_data
from tests.sampling.golden import MASK, bd3lm, sdar

# name -> (block, steps of a block, rule, confidence, temperature, top_k, top_p)
GREEDY = {
    "greedy_sequential_b4_s4": (4, 4, "quota", "left", 1.0, None, None),
    "greedy_sequential_b8_s4": (8, 4, "quota", "left", 1.0, None, None),
    "argmax_top_p0.8_T0.7": (4, 4, "dynamic", "probability", 0.7, 20, 0.8),
    "argmax_stop": (4, 4, "quota", "probability", 1.0, None, None),
}
for rule, short in {"quota": "static", "dynamic": "dynamic"}.items():
    for temperature in (1.0, 0.5):
        for block, steps in ((4, 4), (4, 2), (8, 8), (8, 4)):
            name = f"argmax_{short}_b{block}_s{steps}_T{temperature}"
            GREEDY[name] = (block, steps, rule, "probability", temperature, None, None)
# two a step where one is hidden: the other is written over a token, of the prompt in blocks of four
WRITES_OVER = {"argmax_static_b8_s4_T1.0", "argmax_static_b8_s4_T0.5", "argmax_dynamic_b8_s4_T1.0"}
WRITES_OVER |= {name for name in GREEDY if "_b4_s2_" in name}
# size of the block -> for each position that is hidden, the one that torch.topk's partial sort puts next to it
NEXT = {4: (2, 3, 3, 2), 8: (6, 5, 5, 6, 6, 6, 5, 5)}


@pytest.fixture(autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def test_every_stable_sdar_case_is_covered():
    """One is left out: all its confidences are 1, so the sort alone decides which position comes first."""
    _, description = public_data.golden("sdar")
    stable = {name for name, case in description["cases"].items() if case.get("stable")}
    assert stable - {"greedy_static_b4_topk1"} == {*GREEDY, "greedy_dynamic_b4_topk1"}


def ranking_there(confidence, masked):
    """Ours, but for which of the positions that hold a token comes first."""
    others = jnp.arange(masked.size) != jnp.array(NEXT[masked.size])[masked.argmax()]
    return jnp.lexsort((others, -confidence, ~masked))


@pytest.mark.few(2)
@pytest.mark.parametrize("name", GREEDY)
def test_sdar_sequences(monkeypatch, name):
    """SDAR's confidence is the probability in the distribution it draws from, so logits are filtered first."""
    if name in WRITES_OVER:
        monkeypatch.setattr(unmasking, "ranking", ranking_there)
    arrays, description = public_data.golden("sdar")
    (block, steps, rule, confidence, temperature, top_k, top_p), (model, params) = GREEDY[name], sdar(arrays)
    head = model.head
    model = model._replace(head=lambda params, hidden: filtered(head(params, hidden) / temperature, top_k, top_p))
    expected = arrays[f"seq/{name}"]
    length = expected.shape[1]
    plan = Confidence(
        temperature=0.0,
        steps=steps * length // block,
        rule=rule,
        limit=0.6 if rule == "dynamic" else None,
        confidence=confidence,
        stop=13 if name == "argmax_stop" else None,
        upstream_compat=name in WRITES_OVER,
    )
    tokens, trace = sample(jax.random.key(0), model, params, arrays["prompt"], plan, length, Trained(block_size=block))
    # what follows the block that ends is left as it is there, and is the end here
    np.testing.assert_array_equal(tokens, np.where(expected == MASK, 13, expected))
    assert (trace.evaluations <= description["cases"][name]["forward_calls"]).all()


@pytest.mark.slow
def test_sdar_is_certain_with_top_k_one():
    """In SDAR every drawn token then has probability 1, and a block takes one step; ours takes more."""
    arrays, _ = public_data.golden("sdar")
    model, params = sdar(arrays)
    plan = Confidence(top_k=1, rule="dynamic", limit=0.85, upstream_compat=True)
    tokens, trace = sample(jax.random.key(0), model, params, arrays["prompt"], plan, 28, Trained(block_size=4))
    np.testing.assert_array_equal(tokens, arrays["seq/greedy_dynamic_b4_topk1"])
    own, trace_own = sample(
        jax.random.key(0),
        model,
        params,
        arrays["prompt"],
        plan._replace(upstream_compat=False),
        28,
        Trained(block_size=4),
    )
    assert trace.evaluations[0] == 1 + 5 + 4 < trace_own.evaluations[0] and (own[:, :11] == arrays["prompt"]).all()


def test_sdar_logits():
    arrays, _ = public_data.golden("sdar")
    model, params = sdar(arrays)
    tokens = jnp.asarray(arrays["logits_in"], jnp.int32)
    positions = jnp.arange(tokens.shape[1])[None, :, None]
    out, _ = model.hidden(params, reading(tokens, positions, positions, jnp.zeros(1)), causal_blocks(4))
    np.testing.assert_allclose(model.head(params, out), arrays["logits_block_causal_b4"], atol=1e-4)


def both(noised, clean) -> View:
    """[x_t ; x_0]."""
    tokens = jnp.concatenate([jnp.asarray(noised), jnp.asarray(clean)], axis=1).astype(jnp.int32)
    positions = jnp.broadcast_to(jnp.tile(jnp.arange(clean.shape[1]), 2)[None, :, None], (*tokens.shape, 1))
    return reading(tokens, positions, positions, jnp.zeros(len(tokens)))


def test_bd3lm_training_logits():
    arrays, _ = public_data.golden("bd3lm")
    model, params = bd3lm(arrays)
    out, _ = model.hidden(params, both(arrays["xt"], arrays["x0"]), block_mask(4, 16))
    logits = model.head(params, out[:, :16])
    np.testing.assert_allclose(logits, arrays["raw_logits_train"][..., :-1], atol=1e-4)
    probs, masked = jax.nn.log_softmax(logits), arrays["xt"] == 31
    np.testing.assert_allclose(probs[masked], arrays["logp_subs"][masked][:, :-1], atol=1e-4)


def test_bd3lm_sampling_logits():
    """Three blocks without the clean half; each sees those before it."""
    arrays, _ = public_data.golden("bd3lm")
    model, params = bd3lm(arrays)
    tokens = jnp.asarray(arrays["xt"][:, :12], jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(12)[:, None], (2, 12, 1))
    out, _ = model.hidden(params, reading(tokens, positions, positions, jnp.zeros(2)), causal_blocks(4))
    np.testing.assert_allclose(model.head(params, out), arrays["raw_logits_sample_mode"][..., :-1], atol=1e-4)


@pytest.mark.parametrize("name", ["n8_b2", "n12_b4", "n16_b4", "n16_b16", "n8_b1"])
def test_bd3lm_masks(name):
    arrays, _ = public_data.golden("bd3lm")
    length, size = (int(part[1:]) for part in name.split("_"))
    positions = np.arange(2 * length)
    seen = block_mask(size, length)(positions[:, None], positions[None])
    np.testing.assert_array_equal(seen, arrays[f"mask/bd3lm_{name}"])


@pytest.mark.parametrize(("name", "lengths"), [("sdar_12_b4", (12,)), ("sdar_packed_8_6_b4", (8, 6))])
def test_sdar_masks(name, lengths):
    """SDAR packs [x_t ; x_0] of one sample, then of the next."""
    arrays, _ = public_data.golden("bd3lm")
    length = sum(lengths)
    segments = jnp.tile(np.repeat(np.arange(len(lengths)) + 1, lengths), 2)[None]
    seen = allowed(block_mask(4, length), jnp.arange(2 * length), 2 * length, segments)[0]
    order = np.argsort(segments[0], stable=True)
    np.testing.assert_array_equal(seen[order][:, order], arrays[f"mask/{name}"][0])


def below(logits, top_p: float):
    """BD3-LM's nucleus: the tokens whose cumulated probability is at most top_p, and the likeliest. Ours has one more,
    the token with which the set reaches top_p."""
    order = jnp.argsort(-logits, axis=-1)
    probs = jax.nn.softmax(logits, axis=-1)
    kept = jnp.take_along_axis(probs, order, axis=-1).cumsum(axis=-1) <= top_p
    kept = kept.at[..., 0].set(True)
    return jnp.where(jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1), logits, -jnp.inf)


@pytest.mark.few(1)
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", ["first_hitting_p1.0", "first_hitting_p0.9", "ddpm_p1.0", "ddpm_p0.9"])
def test_bd3lm_sequences_with_recorded_noise(name, cached):
    """Four blocks of four behind a given first token: the pieces of a step, given the draws of the public code."""
    arrays, description = public_data.golden("bd3lm")
    prefix = f"sample/{name}_nokv"
    draws = iter([arrays[f"{prefix}/draw{number:03d}"] for number in range(description["cases"][prefix]["draws"])])
    (model, params), top_p = bd3lm(arrays), float(name[-3:])
    tokens = jnp.full((1, 16), 31, jnp.int32).at[0, 0].set(1)
    network = Network(model, params, tokens, mask=causal_blocks(4))
    cache, num_steps = new_cache(network) if cached else None, 5000 if "hitting" in name else 8

    for block in range(4):
        here = slice(4 * block, 4 * block + 4)
        times, step = np.linspace(1, 0, num_steps), 0
        while (tokens[0, here] == 31).any():
            if cached:
                out, _ = read(network, cache, tokens, jnp.zeros(1), 4 * block, 4)
            else:
                out = read(network, None, tokens, jnp.zeros(1))[0][:, here]
            logits = logits_of(network, out)[0]
            hidden = np.flatnonzero(tokens[0, here] == 31)
            if "hitting" in name:
                next(draws)  # of the time, which this network is not told
            u = next(draws)[0]
            gumbel = jnp.asarray(-np.log(1e-10 - np.log(u + 1e-10)), jnp.float32)
            logits = below(logits, top_p)
            if "hitting" in name:
                drawn = candidates(gumbel[:, :-1], logits, jnp.float32(1), None, None)
                position = hidden[int(next(draws)[0])]
                tokens = tokens.at[0, 4 * block + position].set(drawn[position])
            else:
                t = times[step]
                stays = jnp.log((t - 1 / num_steps) / t)
                probs = jax.nn.log_softmax(logits) + jnp.log1p(-jnp.exp(stays))
                drawn = (jnp.concatenate([probs, jnp.full((4, 1), stays)], axis=1) + gumbel).argmax(axis=1)
                tokens = tokens.at[0, here].set(jnp.where(tokens[0, here] == 31, drawn, tokens[0, here]))
            step += 1
        if cached:
            _, cache = read(network, cache, tokens, jnp.zeros(1), 4 * block, 4)
    np.testing.assert_array_equal(tokens, arrays[f"{prefix}/seq"])


LOSSES = {
    "uniform": (1e-3, 1.0),
    "clip_.45_.95": (0.45, 0.95),
    "clip_.3_.8_resample": (0.3, 0.8),
    "nll_b1": (1.0, 1.0),
    "ignore_bos": (1e-3, 1.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_bd3lm_losses_with_recorded_noise(name):
    """`resample`: blocks with a share of masks outside the bounds are drawn again until there are none."""
    arrays, description = public_data.golden("bd3lm")
    (low, high), (model, params), x = LOSSES[name], bd3lm(arrays), jnp.asarray(arrays["x0"], jnp.int32)
    ranks = np.arange(8).reshape(2, 4) / 8
    t = low + (high - low) * ((arrays[f"loss/{name}/draw0"] / 8 + ranks) % 1)
    chance = np.repeat(t, 4, axis=1)
    masked = arrays[f"loss/{name}/draw1"] <= chance
    for draw in range(2, description["cases"][f"loss/{name}"]["draws"]):
        share = masked.reshape(2, 4, 4).mean(axis=2)
        again = np.repeat((share < low) | (share > high), 4, axis=1)
        masked = np.where(again, arrays[f"loss/{name}/draw{draw}"] < chance, masked)
    masked[:, 0] &= name != "ignore_bos"
    view = both(np.where(masked, 31, x), x)._replace(targets=x, weight=jnp.asarray(masked / chance, jnp.float32))
    out, _ = model.hidden(params, view, block_mask(4, 16))
    nats = cross_entropy((), model.head(params, out[:, :16]), view)
    np.testing.assert_allclose(nats, arrays[f"loss/{name}/nlls"], rtol=1e-4, atol=1e-5)


def test_bd3lm_schedules():
    """Masking probability and loss weight. BD3-LM's cosine is not ours; its weight alone adds 1e-3 to the rate."""
    arrays, _ = public_data.golden("bd3lm")
    t = jnp.asarray(arrays["noise/t"])
    schedules = {"loglinear": linear(), "square": polynomial(2.0), "square_root": square_root(), "log": logarithmic()}
    schedules["cosine"] = lambda t: 1 - (1 - 1e-3) * jnp.cos(jnp.pi / 2 * t)
    for name, schedule in schedules.items():
        noised, weight = noise_rate(schedule, t)
        weight *= noised / (noised + 1e-3) if name == "cosine" else 1
        np.testing.assert_allclose(noised, arrays[f"noise/{name}/p"], rtol=1e-5)
        np.testing.assert_allclose(-weight, arrays[f"noise/{name}/loss_scale"], rtol=1e-4)


@pytest.mark.slow
def test_sdar_training_loss():
    """Two samples of 8 and 4 tokens in one row: there [x_t ; x_0] of the one, then of the other; here both halves of a
    row with segments. Attention does not mind the order."""
    arrays, description = public_data.golden("sdar")
    model, params = sdar(arrays)
    model = transformer(model.architecture, Execution(use_segments=True))
    noised, clean = (
        np.concatenate([arrays["train/concat_ids"][0, part] for part in parts])[None]
        for parts in ((slice(0, 8), slice(16, 20)), (slice(8, 16), slice(20, 24)))
    )
    np.testing.assert_array_equal(clean, arrays["train/ids"])
    segments = np.repeat([1, 2], [8, 4])
    view = both(noised, clean)._replace(segments=jnp.tile(segments, 2)[None])
    seen = allowed(block_mask(4, 12), jnp.arange(24), 24, view.segments)[0]
    order = np.concatenate([np.arange(8), 12 + np.arange(8), 8 + np.arange(4), 20 + np.arange(4)])
    np.testing.assert_array_equal(seen[order][:, order], arrays["train/mask"][0])

    masked = noised == MASK
    weight = np.zeros((1, 12))
    weight[masked] = 1 / arrays["train/p_mask"]
    out, _ = model.hidden(params, view, block_mask(4, 12))
    scored = view._replace(targets=jnp.asarray(clean, jnp.int32), weight=jnp.asarray(weight, jnp.float32))
    nats = cross_entropy((), model.head(params, out[:, :12]), scored)
    num_labels = (arrays["train/labels"] >= 0).sum()
    np.testing.assert_allclose(nats.sum() / num_labels, description["train_loss"], rtol=1e-4)
