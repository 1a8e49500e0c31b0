"""The tiny models whose outputs the public code left behind, as networks of ours."""

import jax
import jax.numpy as jnp

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, Model, transformer

MASK, EOS, EOT = 126, 26, 98  # the mask's id there; two frequent predictions that play end of text and end of turn
NAMES = {
    ("norm_1", "RMSNorm_0", "scale"): "attn_norm",
    ("norm_2", "RMSNorm_0", "scale"): "ff_norm",
    ("query", "kernel"): "q_proj",
    ("key", "kernel"): "k_proj",
    ("value", "kernel"): "v_proj",
    ("attention_out", "kernel"): "attn_out",
    ("gate", "kernel"): "ff_proj",
    ("up", "kernel"): "up_proj",
    ("down", "kernel"): "ff_out",
}


def llada(arrays: dict, prefix: str) -> tuple[Model, dict]:
    """LLaDA's network, `prefix` w or wgqa. Its mask is one of 128 tokens: it stays one and is the mask too."""
    weights = {key.removeprefix(f"{prefix}/model.transformer."): jnp.asarray(value) for key, value in arrays.items()}
    blocks = _stacked(NAMES, lambda layer, name: weights[f"blocks.{layer}.{name}.weight"])
    embedding = weights["wte.weight"]
    ends = {
        "embedding": {"embedding": jnp.concatenate([embedding, embedding[MASK : MASK + 1]])},
        "norm": {"RMSNorm_0": {"scale": weights["ln_f.weight"]}},
        "head": weights["ff_out.weight"].T,
    }
    key_value_heads = weights["blocks.0.k_proj.weight"].shape[0] // 16
    architecture = Architecture(128, 3, 64, 4, key_value_heads, 96)
    return transformer(architecture, Execution(use_segments=False)), {"ends": ends, "blocks": blocks}


QWEN3 = {
    ("norm_1", "RMSNorm_0", "scale"): "input_layernorm",
    ("norm_2", "RMSNorm_0", "scale"): "post_attention_layernorm",
    ("query", "kernel"): "self_attn.q_proj",
    ("key", "kernel"): "self_attn.k_proj",
    ("value", "kernel"): "self_attn.v_proj",
    ("query_norm", "RMSNorm_0", "scale"): "self_attn.q_norm",
    ("key_norm", "RMSNorm_0", "scale"): "self_attn.k_norm",
    ("attention_out", "kernel"): "self_attn.o_proj",
    ("gate", "kernel"): "mlp.gate_proj",
    ("up", "kernel"): "mlp.up_proj",
    ("down", "kernel"): "mlp.down_proj",
}


def sdar(arrays: dict) -> tuple[Model, dict]:
    """SDAR's network (Qwen3's), with the mask as LLaDA's above."""
    weights = {key.removeprefix("w/"): jnp.asarray(value) for key, value in arrays.items() if key.startswith("w/")}
    blocks = _stacked(QWEN3, lambda layer, name: weights[f"model.layers.{layer}.{name}.weight"])
    embedding = weights["model.embed_tokens.weight"]
    ends = {
        "embedding": {"embedding": jnp.concatenate([embedding, embedding[MASK : MASK + 1]])},
        "norm": {"RMSNorm_0": {"scale": weights["model.norm.weight"]}},
        "head": weights["lm_head.weight"].T,
    }
    architecture = Architecture(128, 3, 64, 4, 2, 96, norm_epsilon=1e-6, qk_norm=True)
    return transformer(architecture, Execution(use_segments=False)), {"ends": ends, "blocks": blocks}


def bd3lm(arrays: dict) -> tuple[Model, dict]:
    """BD3-LM's DiT of 31 tokens and the mask; it is told t = 0 at every noise level."""
    weights = {key.removeprefix("w/"): jnp.asarray(value) for key, value in arrays.items() if key.startswith("w/")}

    def dense(name, columns=slice(None)):
        bias = weights.get(f"{name}.bias")
        kernel = {"kernel": weights[f"{name}.weight"].T[:, columns]}
        return kernel if bias is None else kernel | {"bias": bias[columns]}

    def norm(name):
        scale = weights[f"{name}.weight"]
        return {"LayerNorm_0": {"scale": scale, "bias": jnp.zeros_like(scale)}}

    layers = [
        {
            "modulate": dense(f"blocks.{layer}.adaLN_modulation"),
            "norm_1": norm(f"blocks.{layer}.norm1"),
            "norm_2": norm(f"blocks.{layer}.norm2"),
            "query": dense(f"blocks.{layer}.attn_qkv", slice(0, 64)),
            "key": dense(f"blocks.{layer}.attn_qkv", slice(64, 128)),
            "value": dense(f"blocks.{layer}.attn_qkv", slice(128, 192)),
            "attention_out": dense(f"blocks.{layer}.attn_out"),
            "up": dense(f"blocks.{layer}.mlp.0"),
            "down": dense(f"blocks.{layer}.mlp.2"),
        }
        for layer in range(3)
    ]
    ends = {
        "embedding": {"embedding": weights["vocab_embed.embedding"]},
        "time_in": dense("sigma_map.mlp.0"),
        "time_out": dense("sigma_map.mlp.2"),
        "last_modulation": dense("output_layer.adaLN_modulation"),
        "norm": norm("output_layer.norm_final"),
        "head": dense("output_layer.linear")["kernel"][:, :-1],
        "head_bias": dense("output_layer.linear")["bias"][:-1],
    }
    architecture = Architecture(
        31, 3, 64, 4, 4, 256, "gelu", "layernorm", mlp_bias=True, head_bias=True, time_conditioning=True, time_width=32
    )
    blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return transformer(architecture, Execution(use_segments=False)), {"ends": ends, "blocks": blocks}


def _stacked(names: dict, weight) -> dict:
    """The tree of a block, each leaf stacked over the three layers; matrices are transposed."""
    blocks: dict = {}
    for (*parents, leaf), name in names.items():
        stacked = jnp.stack([weight(layer, name) for layer in range(3)])
        node = blocks
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = stacked if leaf == "scale" else jnp.swapaxes(stacked, 1, 2)
    return blocks
