"""The tiny models whose outputs the public code left behind, as networks of ours."""

import functools
import json
import pathlib

import jax.numpy as jnp
import numpy as np

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


@functools.cache
def load(folder: pathlib.Path, name: str) -> tuple[dict, dict]:
    """(arrays, description)."""
    with np.load(folder / "golden" / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads((folder / "golden" / f"{name}.json").read_text())


def llada(arrays: dict, prefix: str) -> tuple[Model, dict]:
    """LLaDA's network, `prefix` w or wgqa. Its mask is one of 128 tokens: it stays one and is the mask too."""
    weights = {key.removeprefix(f"{prefix}/model.transformer."): jnp.asarray(value) for key, value in arrays.items()}
    blocks: dict = {}
    for path, name in NAMES.items():
        stacked = jnp.stack([weights[f"blocks.{layer}.{name}.weight"] for layer in range(3)])
        *parents, leaf = path
        node = blocks
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = stacked if leaf == "scale" else jnp.swapaxes(stacked, 1, 2)
    embedding = weights["wte.weight"]
    ends = {
        "embedding": {"embedding": jnp.concatenate([embedding, embedding[MASK : MASK + 1]])},
        "norm": {"RMSNorm_0": {"scale": weights["ln_f.weight"]}},
        "head": weights["ff_out.weight"].T,
    }
    key_value_heads = weights["blocks.0.k_proj.weight"].shape[0] // 16
    architecture = Architecture(128, 3, 64, 4, key_value_heads, 96)
    return transformer(architecture, Execution(use_segments=False)), {"ends": ends, "blocks": blocks}
