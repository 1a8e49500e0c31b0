"""MDLM's and SEDD's layouts with time conditioning, against their published formula in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling.network import reading
from mdlm_jax.weights.source import open_source
from tests.weights.models import write_folder
from tests.weights.test_imported import folder_of

V, WIDTH, HEADS, LAYERS, TIME = 257, 32, 4, 2, 24
MDLM = {
    "model_type": "mdlm",
    "vocab_size": V + 1,
    "model_length": 32,
    "hidden_dim": WIDTH,
    "cond_dim": TIME,
    "n_blocks": LAYERS,
    "n_heads": HEADS,
    "dropout": 0.1,
}
SEDD = {
    "ngpus": 8,
    "tokens": V,
    "graph": {"type": "absorb", "file": "data", "report_all": False},
    "noise": {"type": "loglinear", "sigma_min": 1e-4, "sigma_max": 20},
    "model": {
        "name": "small",
        "type": "ddit",
        "hidden_size": WIDTH,
        "cond_dim": TIME,
        "length": 32,
        "n_blocks": LAYERS,
        "n_heads": HEADS,
        "scale_by_sigma": True,
        "dropout": 0.02,
    },
}
UNIFORM = SEDD | {"graph": {"type": "uniform"}, "model": SEDD["model"] | {"scale_by_sigma": False}}
GEOMETRIC = SEDD | {"noise": SEDD["noise"] | {"type": "geometric"}}
CONFIGS = {
    "mdlm": MDLM | {"time_conditioning": True},
    "mdlm-untimed": MDLM | {"time_conditioning": False},
    "sedd": SEDD,
    "sedd-uniform": UNIFORM,
    "sedd-geometric": GEOMETRIC,
}
TIMES = (0.2, 0.9)


def public_names(config):
    """Every tensor of the public classes with its shape, as their modules name them."""
    rows = config["tokens"] + (config["graph"]["type"] == "absorb") if "graph" in config else config["vocab_size"]
    shapes = {
        "vocab_embed.embedding": (rows, WIDTH),
        "sigma_map.mlp.0.weight": (TIME, 256),
        "sigma_map.mlp.0.bias": (TIME,),
        "sigma_map.mlp.2.weight": (TIME, TIME),
        "sigma_map.mlp.2.bias": (TIME,),
        "rotary_emb.inv_freq": (WIDTH // HEADS // 2,),
        "output_layer.norm_final.weight": (WIDTH,),
        "output_layer.linear.weight": (rows, WIDTH),
        "output_layer.linear.bias": (rows,),
        "output_layer.adaLN_modulation.weight": (2 * WIDTH, TIME),
        "output_layer.adaLN_modulation.bias": (2 * WIDTH,),
    }
    for i in range(LAYERS):
        inside = {
            "norm1.weight": (WIDTH,),
            "attn_qkv.weight": (3 * WIDTH, WIDTH),
            "attn_out.weight": (WIDTH, WIDTH),
            "norm2.weight": (WIDTH,),
            "mlp.0.weight": (4 * WIDTH, WIDTH),
            "mlp.0.bias": (4 * WIDTH,),
            "mlp.2.weight": (WIDTH, 4 * WIDTH),
            "mlp.2.bias": (WIDTH,),
            "adaLN_modulation.weight": (6 * WIDTH, TIME),
            "adaLN_modulation.bias": (6 * WIDTH,),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in inside.items()}
    return shapes


def random_weights(config):
    generator = np.random.default_rng(0)
    prefix = "" if "graph" in config else "backbone."
    return {
        prefix + name: (generator.normal(size=shape) * 0.2 + (len(shape) == 1)).astype(np.float32)
        for name, shape in public_names(config).items()
    }


def published_logits(weights, ids, sigma):
    """DiT with adaLN as both repositories have it: [B L rows], before SEDD's scaling."""
    w = {name.removeprefix("backbone."): value.astype(np.float64) for name, value in weights.items()}

    def dense(name, x):
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)

    def silu(x):
        return x / (1 + np.exp(-x))

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[name + ".weight"]

    def modulated(x, shift, scale):
        return x * (1 + scale) + shift

    angle = sigma[:, None] * np.exp(-np.log(1e4) * np.arange(128) / 128)
    embedded = np.concatenate([np.cos(angle), np.sin(angle)], -1)
    c = silu(dense("sigma_map.mlp.2", silu(dense("sigma_map.mlp.0", embedded))))
    x, size = w["vocab_embed.embedding"][ids], WIDTH // HEADS
    turn = np.arange(ids.shape[1])[:, None] * 1e4 ** (-np.arange(0, size, 2) / size)
    cos, sin = (np.concatenate([f(turn)] * 2, -1)[:, None] for f in (np.cos, np.sin))
    for i in range(LAYERS):
        layer = f"blocks.{i}."
        parts = np.split(dense(layer + "adaLN_modulation", c)[:, None], 6, -1)
        qkv = dense(layer + "attn_qkv", modulated(norm(layer + "norm1", x), *parts[:2]))
        q, k, v = (part.reshape(*ids.shape, HEADS, size) for part in np.split(qkv, 3, -1))
        q, k = (a * cos + np.concatenate([-a[..., size // 2 :], a[..., : size // 2]], -1) * sin for a in (q, k))
        scores = np.exp(np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(size))
        mixed = np.einsum("bhqk,bkhd->bqhd", scores / scores.sum(-1, keepdims=True), v).reshape(x.shape)
        x = x + parts[2] * dense(layer + "attn_out", mixed)
        h = dense(layer + "mlp.0", modulated(norm(layer + "norm2", x), *parts[3:5]))
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + parts[5] * dense(layer + "mlp.2", h)
    shift, scale = np.split(dense("output_layer.adaLN_modulation", c)[:, None], 2, -1)
    return dense("output_layer.linear", modulated(norm("output_layer.norm_final", x), shift, scale))


def sigma_of(config):
    if config.get("noise", {}).get("type") == "geometric":
        return np.array([1e-4 ** (1 - t) * 20**t for t in TIMES])
    return -np.log1p(-(1 - 1e-3) * np.array(TIMES)) if config.get("time_conditioning", True) else np.zeros(2)


@pytest.fixture(params=CONFIGS)
def opened(request, tmp_path):
    """(the public configuration, its weights, the folder)"""
    config = CONFIGS[request.param]
    weights = random_weights(config)
    folder = folder_of(tmp_path / "model", config, weights)
    return config, weights, folder


def test_logits_and_scores(opened):
    """Of every position at two times of the published noise; SEDD's log ratios, too."""
    config, weights, folder = opened
    run = mj.open_run(folder)
    ids = np.random.default_rng(1).integers(0, V, (2, 12))
    if run.config.objective.get("process") != "uniform":
        ids[:, ::3] = V  # the mask
    positions = jnp.broadcast_to(jnp.arange(12), ids.shape)[..., None]
    view = reading(jnp.asarray(ids), positions, positions, jnp.asarray(TIMES, jnp.float32))
    logits = run.model.head(run.params, run.model.hidden(run.params, view, full)[0])
    sigma = sigma_of(config)
    expected = published_logits(weights, ids, sigma)[..., :V]
    np.testing.assert_allclose(logits, expected, atol=2e-4, rtol=2e-4)
    if "graph" in config:
        if config["model"]["scale_by_sigma"]:
            expected = expected - np.log(np.expm1(sigma))[:, None, None] - np.log(V)
        scores = run.objective.parameterization(()).log_ratio(
            logits, jnp.asarray(ids), jnp.broadcast_to(jnp.asarray(TIMES, jnp.float32)[:, None], ids.shape)
        )
        np.testing.assert_allclose(scores, expected, atol=4e-4, rtol=2e-4)


def test_sampled_as_its_objective_says(tmp_path):
    folder = folder_of(tmp_path / "model", SEDD, random_weights(SEDD))
    run = mj.open_run(folder)
    assert (run.config.objective.name, run.config.objective.score) == ("sedd", "scaled")
    (drawn,) = mj.sample(folder, prompts=["ab"], length=8, sampler="euler:steps=4")
    assert drawn.tokens.shape == (1, 8) and drawn.text[0].startswith("ab")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"graph": {"type": "star"}}, 'type is \'star\'; accepted: "absorb", "uniform"'),
        ({"graph": []}, r"graph is \[\]; accepted: an object"),
        ({"graph": {"type": "uniform"}}, "scale_by_sigma is True; accepted: false where graph.type is uniform"),
        ({"noise": {"type": "cosine"}}, 'type is \'cosine\'; accepted: "loglinear", "geometric"'),
        ({"noise": {"type": "geometric", "sigma_max": 5}}, "sigma_max is 5; accepted: 20.0"),
        ({"tokens": 0}, "tokens is 0; accepted: a whole number"),
        ({"tokens": V + 1}, "3 of another shape"),
        ({"model": SEDD["model"] | {"n_heads": 5}}, "n_heads is 5; accepted: a divisor of hidden_size = 32"),
    ],
)
def test_other_noise_is_refused(tmp_path, changes, words):
    folder = write_folder(tmp_path / "model", SEDD | changes, random_weights(SEDD))
    with pytest.raises(UserError, match=words):
        open_source(folder)
