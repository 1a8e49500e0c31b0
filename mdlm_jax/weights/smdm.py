"""SMDM (arXiv 2410.18514), AR and masked: names of lit-gpt, queries, keys and values fused group by group."""

import re
from functools import partial

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.ladder import SMDM
from mdlm_jax.weights.description import EMBEDDING, HEAD, Description, block, count_layers, last_scale, linear, scale
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.slots import Fill, Slot, transposed, unchanged
from mdlm_jax.weights.tensors import Tensor


def smdm(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    """lit-gpt's configuration; a masked model has one row more in its embedding than columns in its head."""
    width, heads = settings.integer("n_embd"), settings.integer("n_head")
    key_heads = settings.integer("n_query_groups", heads)
    if width % heads or heads % key_heads:
        settings.refuse("n_head", f"a divisor of n_embd = {width} and a multiple of n_query_groups = {key_heads}")
    size, mlp_width = width // heads, settings.integer("intermediate_size")
    rows = settings.integer("padded_vocab_size", settings.integer("vocab_size", 32000))
    table = tensors.get("transformer.wte.weight")
    masked = table is not None and table.shape[:1] == (rows + 1,)
    architecture = Architecture(
        vocab_size=rows,
        layers=count_layers(settings, "n_layer", tensors),
        width=width,
        heads=heads,
        key_value_heads=key_heads,
        mlp_width=mlp_width,
        norm_epsilon=settings.number("norm_eps", 1e-5),
        rope_bfloat16=settings.flag("rope_bfloat16", True),
    )
    slots = [Slot("transformer.wte.weight", (rows + masked, width), (Fill(EMBEDDING, None, unchanged),))]
    for i in range(architecture.layers):
        layer = f"transformer.h.{i}."
        slots += [
            scale(layer + "norm_1.weight", "norm_1", i, width),
            _fused(layer + "attn.attn.weight", i, heads, key_heads, size, width),
            *linear(layer + "attn.proj", "attention_out", i, width, width),
            scale(layer + "norm_2.weight", "norm_2", i, width),
            *linear(layer + "mlp.swiglu.w1", "gate", i, mlp_width, width),
            *linear(layer + "mlp.swiglu.w2", "up", i, mlp_width, width),
            *linear(layer + "mlp.swiglu.w3", "down", i, width, mlp_width),
        ]
    slots += [
        last_scale("transformer.ln_f.weight", width),
        Slot("lm_head.weight", (rows, width), (Fill(HEAD, None, transposed),)),
    ]
    context = settings.integer("block_size", 2048)
    return Description(architecture, tuple(slots), context, objective="masked" if masked else "ar")


def infer_settings(tensors: dict[str, Tensor], file) -> dict:
    """lit-gpt's configuration of a file that has none, by its shapes, which name one of SMDM's sizes."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    layers = len({name for name in shapes if re.fullmatch(r"transformer\.h\.\d+\.norm_1\.weight", name)})
    up, out = shapes.get("transformer.h.0.mlp.swiglu.w1.weight", ()), shapes.get("lm_head.weight", ())
    for a in SMDM.values():
        if (layers, up, out[1:]) == (a.layers, (a.mlp_width, a.width), (a.width,)):
            return {
                "model_type": "smdm",
                "n_layer": layers,
                "n_embd": a.width,
                "n_head": a.heads,
                "n_query_groups": a.key_value_heads,
                "intermediate_size": a.mlp_width,
                "vocab_size": out[0],
            }
    raise UserError(f"{file}: no config.json beside it, and its shapes are of no size of SMDM")


def _fused(name: str, layer: int, heads: int, key_heads: int, size: int, width: int) -> Slot:
    """For each key head: its query heads, its key, its value."""
    per_group = heads // key_heads
    groups = (key_heads, per_group + 2, size, width)
    parts = {"query": slice(0, per_group), "key": slice(per_group, per_group + 1), "value": slice(per_group + 1, None)}
    fills = tuple(block(part, "kernel", layer, partial(_of_groups, groups, rows)) for part, rows in parts.items())
    return Slot(name, ((heads + 2 * key_heads) * size, width), fills)


def _of_groups(groups: tuple[int, ...], rows: slice, stored):
    return np.moveaxis(stored.reshape(groups)[:, rows], -1, 0)
