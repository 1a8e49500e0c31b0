"""The network against closed forms: parameter counts, who may look at whom, and one function however it is run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.data import Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.attention import rotate
from mdlm_jax.models.block import _dropout
from mdlm_jax.models.ladder import SMDM
from mdlm_jax.models.layers import Norm
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.base import View, causal, full

SMALL = Architecture(11, layers=3, width=32, heads=4, key_value_heads=2, mlp_width=48)
OPTIONS = {
    "smdm": {},
    "gpt2": {"norm": "layernorm", "mlp": "gelu", "tied_head": True, "attention_bias": True, "mlp_bias": True},
    "qwen": {"qk_norm": True, "head_bias": True},
    "dit": {"time_conditioning": True, "mlp": "gelu", "norm": "layernorm", "mlp_bias": True},
}
RUNS = [
    Execution(attention="library"),
    Execution(scan_layers=True, attention="library"),
    Execution(scan_layers=True, remat="dots"),
    Execution(remat="full"),
]


def whole_view(tokens, segments=None, t=None) -> View:
    shape = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(shape[1])[:, None], (*shape, 1))
    segments = jnp.ones(shape, jnp.int32) if segments is None else segments
    t = jnp.full(shape, 0.3) if t is None else t
    noisy = jnp.sin(tokens[..., None] + jnp.arange(5.0))
    return View(tokens, tokens, jnp.ones(shape), t, positions, positions, segments, jnp.zeros(shape[0]), noisy)


@functools.cache
def compiled(architecture, execution, mask):
    model = transformer(architecture, execution)
    return jax.jit(lambda params, view: model.head(params, model.hidden(params, view, mask)[0]))


def logits_of(architecture, execution, params, view, mask):
    return compiled(architecture, execution, mask)(params, view)


@functools.cache
def initial(architecture):
    return jax.jit(transformer(architecture, Execution()).init)(jax.random.key(0))


def awake(params):
    """adaLN starts at zero, which hides it: every leaf is moved."""
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten(
        [leaf + 0.05 * jnp.cos(jnp.arange(leaf.size) + i).reshape(leaf.shape) for i, leaf in enumerate(leaves)]
    )


@pytest.mark.parametrize("name", SMDM)
def test_smdm_sizes_match_the_paper(name):
    """Counts the shapes that `init` makes; test_ladder checks the closed form against the paper."""
    params = jax.eval_shape(transformer(SMDM[name], Execution(scan_layers=True)).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == num_parameters(SMDM[name]).total


@pytest.mark.few(2)
@pytest.mark.parametrize("options", [*OPTIONS.values(), {"input_width": 5}], ids=[*OPTIONS, "vectors"])
def test_options_match_the_closed_form(options):
    architecture = SMALL._replace(**options)
    params = initial(architecture)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == num_parameters(architecture).total


@pytest.mark.few(1)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_execution_options_keep_the_output(options):
    """Scanned layers, rematerialisation and the library kernel."""
    architecture = SMALL._replace(**options)
    params = awake(initial(architecture))
    view = whole_view(jnp.arange(24).reshape(2, 12) % 12, segments=jnp.array([[1] * 5 + [2] * 7, [1] * 10 + [0] * 2]))
    for mask, executions in ((causal, RUNS), (full, RUNS[:2])):
        expected = logits_of(architecture, Execution(), params, view, mask)
        for execution in executions:
            np.testing.assert_allclose(logits_of(architecture, execution, params, view, mask), expected, atol=2e-5)


def test_bfloat16_is_near_float32():
    """The weights stay in float32."""
    params = jax.jit(transformer(SMALL, Execution(compute_dtype=jnp.bfloat16)).init)(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    view = whole_view(jnp.arange(24).reshape(2, 12) % 12)
    exact = logits_of(SMALL, Execution(), params, view, full)
    rounded = logits_of(SMALL, Execution(compute_dtype=jnp.bfloat16), params, view, full)
    assert rounded.dtype == jnp.float32
    assert float(jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact)) < 0.02


def changed_positions(mask, segments, position):
    """Which positions' logits move when the token at `position` does."""
    params = initial(SMALL)
    tokens = jnp.arange(8)[None] % 11
    moved = tokens.at[0, position].add(1)
    before, after = (logits_of(SMALL, Execution(), params, whole_view(x, segments), mask) for x in (tokens, moved))
    return np.flatnonzero(np.abs(after - before).max(axis=-1)[0] > 0)


def test_attention_obeys_mask_and_segments():
    one, two = jnp.ones((1, 8), jnp.int32), jnp.array([[1, 1, 1, 2, 2, 2, 2, 0]])
    assert changed_positions(full, one, 3).tolist() == list(range(8))
    assert changed_positions(causal, one, 3).tolist() == [3, 4, 5, 6, 7]
    assert changed_positions(full, two, 4).tolist() == [3, 4, 5, 6]
    assert changed_positions(causal, two, 4).tolist() == [4, 5, 6]


def test_rotary_positions_are_relative():
    """Shifting all coordinates changes nothing. A query's target position matters, and keys have none."""
    params = initial(SMALL)
    view = whole_view(jnp.arange(12)[None] % 11)
    shifted = view._replace(positions=view.positions + 5, key_positions=view.key_positions + 5)
    np.testing.assert_allclose(
        logits_of(SMALL, Execution(), params, view, full),
        logits_of(SMALL, Execution(), params, shifted, full),
        atol=2e-5,
    )


def test_any_order_causal_reads_its_target():
    """Two orders that read the same tokens and differ only in the last target differ only in the last logits."""
    params = initial(SMALL)
    objective = OBJECTIVES["any_order_causal"](11)
    example = Example(jnp.arange(6), jnp.ones(6, jnp.int32), jnp.zeros(6, bool))
    view = objective.view((), jax.random.key(3), example, 0.0)
    other = view._replace(positions=view.positions.at[0, -1, 1].add(1))
    a, b = (logits_of(SMALL, Execution(), params, v, causal) for v in (view, other))
    assert np.flatnonzero(np.abs(a - b).max(axis=-1)[0] > 1e-6).tolist() == [5]


def test_smdm_forward_reference_case():
    """Logits of SMDM's own code (commit 583aa47) with weights filled by a formula and float32 rotary tables."""
    architecture = Architecture(128, layers=2, width=32, heads=4, key_value_heads=2, mlp_width=128)
    names = ["lm_head.weight"]
    for layer in "01":
        block = f"transformer.h.{layer}."
        names += [block + part for part in ("attn.attn.weight", "attn.proj.weight", "mlp.swiglu.w1.weight")]
        names += [
            block + part for part in ("mlp.swiglu.w2.weight", "mlp.swiglu.w3.weight", "norm_1.weight", "norm_2.weight")
        ]
    names += ["transformer.ln_f.weight", "transformer.wte.weight"]
    shapes = {"lm_head": (128, 32), "attn.attn": (64, 32), "attn.proj": (32, 32), "w1": (128, 32), "w2": (128, 32)}
    shapes |= {"w3": (32, 128), "norm": (32,), "ln_f": (32,), "wte": (129, 32)}

    def fill(index, shape):
        wave = 0.05 * np.cos(0.37 * np.arange(np.prod(shape)) + index)
        return jnp.asarray((1 + wave if len(shape) == 1 else wave).reshape(shape), jnp.float32)

    weights = {}
    for index, name in enumerate(sorted(names)):
        weights[name] = fill(index, next(shape for part, shape in shapes.items() if part in name))

    def block(layer):
        w = {name.split(f"h.{layer}.")[1]: value for name, value in weights.items() if f"h.{layer}." in name}
        # rows of the fused matrix, for each of the two groups: query, query, key, value
        fused = w["attn.attn.weight"].reshape(2, 4, 8, 32)
        return {
            "query": {"kernel": fused[:, :2].reshape(32, 32).T},
            "key": {"kernel": fused[:, 2].reshape(16, 32).T},
            "value": {"kernel": fused[:, 3].reshape(16, 32).T},
            "attention_out": {"kernel": w["attn.proj.weight"].T},
            "gate": {"kernel": w["mlp.swiglu.w1.weight"].T},
            "up": {"kernel": w["mlp.swiglu.w2.weight"].T},
            "down": {"kernel": w["mlp.swiglu.w3.weight"].T},
            "norm_1": {"RMSNorm_0": {"scale": w["norm_1.weight"]}},
            "norm_2": {"RMSNorm_0": {"scale": w["norm_2.weight"]}},
        }

    params = {
        "ends": {
            "embedding": {"embedding": weights["transformer.wte.weight"]},
            "norm": {"RMSNorm_0": {"scale": weights["transformer.ln_f.weight"]}},
            "head": weights["lm_head.weight"].T,
        },
        "blocks": jax.tree.map(lambda *layers: jnp.stack(layers), block(0), block(1)),
    }
    i = np.arange(12)
    tokens = np.stack([(7 * i + 3) % 100, (11 * i + 5) % 100])
    masked = tokens.copy()
    masked[0, 3] = masked[0, 8] = masked[1, 0] = 128
    with jax.default_matmul_precision("highest"):
        logits = logits_of(architecture, Execution(), params, whole_view(jnp.asarray(masked)), full)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 39_104
    np.testing.assert_allclose(logits[0, 0, :3], [0.1806481, -0.2839684, -0.6052318], atol=2e-5)
    np.testing.assert_allclose(jnp.abs(logits).sum(), 1321.9403, rtol=1e-5)
    nats = -jax.nn.log_softmax(logits)[[0, 0, 1], [3, 8, 0], tokens[[0, 0, 1], [3, 8, 0]]]
    np.testing.assert_allclose(nats, [5.673242, 5.554620, 5.371327], rtol=1e-5)


def test_modulation_scales_the_norms():
    """With shifts 0, scales c and gates 1, adaLN is the network without it whose norms are 1 + c times as large."""
    plain = SMALL._replace(layers=1)
    params, c = awake(initial(plain)), 0.25
    scaled = {room: {name: leaf for name, leaf in leaves.items()} for room, leaves in params.items()}
    for room, names in (("blocks", ("norm_1", "norm_2")), ("ends", ("norm",))):
        for name in names:
            scaled[room][name] = jax.tree.map(lambda leaf: (1 + c) * leaf, params[room][name])
    timed = plain._replace(time_conditioning=True)
    conditioned = initial(timed)
    parts = jnp.repeat(jnp.array([0, c, 1, 0, c, 1.0]), SMALL.width)  # shift, scale and gate of either branch
    conditioned = {
        "blocks": conditioned["blocks"] | params["blocks"],
        "ends": conditioned["ends"] | params["ends"],
    }
    conditioned["blocks"]["modulate"] = conditioned["blocks"]["modulate"] | {"bias": parts[None]}
    last = jnp.repeat(jnp.array([0, c]), SMALL.width)
    conditioned["ends"]["last_modulation"] = conditioned["ends"]["last_modulation"] | {"bias": last}
    view = whole_view(jnp.arange(12)[None] % 11)
    one, other = (logits_of(a, Execution(), tree, view, full) for a, tree in ((timed, conditioned), (plain, scaled)))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_output_layers_start_smaller_with_depth():
    """Their initial weights have the deviation 1 / (sqrt(width) layers), as in SMDM's code; the last layer's too."""
    params = transformer(SMALL._replace(layers=4, width=64, mlp_width=128), Execution()).init(jax.random.key(0))
    for name in ("attention_out", "down"):
        np.testing.assert_allclose(params["blocks"][name]["kernel"].std(axis=(1, 2)), 1 / (8 * 4), rtol=0.1)


@pytest.mark.slow
def test_one_noise_level_applies_to_all_positions():
    architecture = SMALL._replace(layers=1, time_conditioning=True)
    params, tokens = awake(initial(architecture)), jnp.arange(24).reshape(2, 12) % 12
    t = jnp.array([[0.2], [0.7]])
    once, each, other = (
        logits_of(architecture, Execution(), params, whole_view(tokens, t=t), full)
        for t in (t, jnp.broadcast_to(t, tokens.shape), 1 - t)
    )
    np.testing.assert_allclose(once, each, atol=2e-5)
    assert float(jnp.abs(once - other).max()) > 0.01


def test_input_width_reads_vectors_instead_of_tokens():
    architecture = SMALL._replace(layers=1, input_width=5)
    params, view = initial(architecture), whole_view(jnp.arange(12)[None] % 11)
    assert "embedding" not in params["ends"]
    before, other_tokens, other_vectors = (
        logits_of(architecture, Execution(), params, seen, full)
        for seen in (view, view._replace(tokens=view.tokens + 1), view._replace(noisy=-view.noisy))
    )
    assert bool((before == other_tokens).all()) and float(jnp.abs(before - other_vectors).max()) > 0.01


@pytest.mark.slow
def test_dropout_depends_only_on_the_example():
    """Two examples in one batch draw what each draws alone."""
    architecture = SMALL._replace(dropout=0.5)
    model = transformer(architecture, Execution())
    params, keys = initial(architecture), jax.random.split(jax.random.key(1), 2)
    view = whole_view(jnp.arange(16).reshape(2, 8) % 11)
    both, _ = model.hidden(params, view, full, dropout_keys=keys)
    second, _ = model.hidden(params, jax.tree.map(lambda field: field[1:], view), full, dropout_keys=keys[1:])
    still, _ = model.hidden(params, view, full)
    other, _ = model.hidden(params, view, full, dropout_keys=jax.random.split(jax.random.key(2), 2))
    np.testing.assert_allclose(both[1:], second, atol=1e-5)
    assert min(float(jnp.abs(both - x).max()) for x in (still, other)) > 0.1


def test_dropout_of_both_branches_is_independent():
    x, keys = jnp.ones((2, 64, 64)), jax.random.split(jax.random.key(0), 2)
    attention, mlp = (_dropout(x, keys, 0.5, branch) for branch in (0, 1))
    assert abs(float(jnp.mean(attention * mlp)) - 1.0) < 0.1  # 2 if they were one mask, with what is kept doubled


def test_two_coordinates_split_the_frequencies():
    """Each coordinate turns its own d / 4 pairs by base^(-i / (d / 4)), against complex numbers in float64."""
    d, base = 16, 10_000.0
    rng = np.random.default_rng(0)
    x, positions = rng.normal(size=(1, 3, 1, d)), np.array([[[3, 7], [0, 2], [5, 5]]])
    angle = np.concatenate([positions[..., [c]] * base ** (-np.arange(d // 4) / (d // 4)) for c in (0, 1)], axis=-1)
    turned = (x[..., : d // 2] + 1j * x[..., d // 2 :]) * np.exp(1j * angle)[:, :, None]
    ours = rotate(jnp.asarray(x, jnp.float32), jnp.asarray(positions), base)
    np.testing.assert_allclose(ours, np.concatenate([turned.real, turned.imag], axis=-1), atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 100.0, 3000.0])
def test_layer_norm_of_a_large_mean(offset):
    rows = (offset + np.random.default_rng(0).normal(0, 0.1, (4, 64))).astype(np.float32)
    norm = Norm(Architecture(64, 1, 64, 2, 2, 64, norm="layernorm", norm_epsilon=1e-6))
    found = norm.apply(norm.init(jax.random.key(0), rows), rows)
    wide = rows.astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, expected, atol=0.02 if offset else 1e-5)
