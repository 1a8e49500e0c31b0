"""SMDM's layout, against a forward pass written out in float64."""

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import causal, full
from mdlm_jax.weights.load import load_weights
from tests.weights.models import logits_of, random_tensors, write_file, write_folder

CONFIG = {
    "model_type": "smdm",
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "n_query_groups": 2,
    "intermediate_size": 48,
    "vocab_size": 29,
}


def rms(x, weight):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight


def rounded(x):
    import ml_dtypes

    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


def forward(w, ids, config, seen, round_tables):
    """Queries, keys and values fused group by group; tables of cosines and sines rounded to bfloat16."""
    heads, groups = config["n_head"], config["n_query_groups"]
    size, length = config["n_embd"] // heads, ids.shape[1]
    angle = np.arange(length)[:, None] / 1e4 ** (np.arange(0, size, 2) / size)
    cos, sin = np.cos(angle), np.sin(angle)
    if round_tables:
        cos, sin = rounded(cos), rounded(sin)

    def turn(x):
        first, second = np.split(x, 2, -1)
        c, s = cos[None, :, None], sin[None, :, None]
        return np.concatenate([first * c - second * s, second * c + first * s], -1)

    x = w["transformer.wte.weight"][ids]
    for i in range(config["n_layer"]):
        layer = f"transformer.h.{i}."
        fused = rms(x, w[layer + "norm_1.weight"]) @ w[layer + "attn.attn.weight"].T
        fused = fused.reshape(*ids.shape, groups, heads // groups + 2, size)
        q = turn(fused[..., :-2, :].reshape(*ids.shape, heads, size))
        k, v = turn(fused[..., -2, :]), fused[..., -1, :]
        k, v = (np.repeat(part, heads // groups, axis=2) for part in (k, v))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / size**0.5
        scores = np.where(seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)
        x = x + mixed.reshape(*ids.shape, -1) @ w[layer + "attn.proj.weight"].T
        flat = rms(x, w[layer + "norm_2.weight"])
        gate, up = (flat @ w[f"{layer}mlp.swiglu.{name}.weight"].T for name in ("w1", "w2"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[layer + "mlp.swiglu.w3.weight"].T
    return rms(x, w["transformer.ln_f.weight"]) @ w["lm_head.weight"].T


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("round_tables", [False, True])
def test_logits(tmp_path, masked, round_tables):
    tensors = random_tensors(CONFIG)
    if masked:
        row = np.ones((1, CONFIG["n_embd"]), np.float32)
        tensors["transformer.wte.weight"] = np.concatenate([tensors["transformer.wte.weight"], row])
    config = CONFIG | {"rope_bfloat16": round_tables}
    found = load_weights(write_folder(tmp_path, config, tensors))
    assert found.source.description.objective == ("masked" if masked else "ar")
    ids = np.random.default_rng(2).integers(0, CONFIG["vocab_size"] + masked, (2, 24))
    seen = np.ones((24, 24), bool) if masked else np.tril(np.ones((24, 24), bool))
    wide = {name: value.astype(np.float64) for name, value in tensors.items()}
    expected = forward(wide, ids, config, seen, round_tables)
    found = logits_of(found, ids, full if masked else causal)
    np.testing.assert_allclose(found, expected, atol=5e-5 * np.abs(expected).max(), rtol=0)


def test_file_without_config(tmp_path):
    """The shapes identify one of SMDM's sizes, whose number of heads is known."""
    config = CONFIG | {"n_layer": 6, "n_embd": 256, "n_query_groups": 4, "intermediate_size": 1024}
    write_file(tmp_path / "ar-6M.safetensors", random_tensors(config))
    found = load_weights(tmp_path / "ar-6M.safetensors")
    assert found.model.architecture.heads == 4 and found.model.architecture.vocab_size == 29
    write_file(tmp_path / "other.safetensors", random_tensors(CONFIG))
    with pytest.raises(UserError, match="other.safetensors: no config.json beside it"):
        load_weights(tmp_path / "other.safetensors")
