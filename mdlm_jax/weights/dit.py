"""MDLM (arXiv 2406.07524) and BD3-LM (arXiv 2503.09573): DiT with adaLN, whose noise level is fixed at 0."""

from functools import partial

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.weights.description import EMBEDDING, HEAD, Description, block, count_layers, last_scale, linear, scale
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.slots import Fill, Slot, transposed, unchanged
from mdlm_jax.weights.tensors import Tensor

FREQUENCIES = 256  # cosines, then sines, of the noise level
PARTS = ("query", "key", "value")


def mdlm(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    return _describe(settings, tensors, block_size=0)


def bd3lm(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    settings.only("cross_attn", True, False)
    return _describe(settings, tensors, block_size=settings.integer("block_size"))


def _describe(settings: Settings, tensors: dict[str, Tensor], block_size: int) -> Description:
    """The last row of the vocabulary is the mask: our head has no such column, theirs is set to -inf."""
    settings.only("time_conditioning", False)
    settings.only("causal", False)
    width, heads, rows = (
        settings.integer("hidden_dim"),
        settings.integer("n_heads"),
        settings.integer("vocab_size", least=2),
    )
    if width % heads or (width // heads) % 2:
        settings.refuse("n_heads", f"a divisor of hidden_dim = {width} that leaves an even number")
    prefix = "backbone." if any(name.startswith("backbone.") for name in tensors) else ""
    known = tensors.get(prefix + "sigma_map.mlp.0.weight")
    # the published configuration is one off, the tensors are right
    time_width = known.shape[0] if known is not None and known.shape else settings.integer("cond_dim")
    architecture = Architecture(
        vocab_size=rows - 1,
        layers=count_layers(settings, "n_blocks", tensors),
        width=width,
        heads=heads,
        key_value_heads=heads,
        mlp_width=4 * width,
        mlp="gelu",
        norm="layernorm",
        mlp_bias=True,
        head_bias=True,
        time_conditioning=True,
        time_width=time_width,
    )
    out = prefix + "output_layer."
    slots = [
        Slot(prefix + "vocab_embed.embedding", (rows, width), (Fill(EMBEDDING, None, unchanged),)),
        *_time(prefix + "sigma_map.mlp.", time_width),
        last_scale(out + "norm_final.weight", width, "LayerNorm"),
        Slot(out + "linear.weight", (rows, width), (Fill(HEAD, None, lambda stored: stored[: rows - 1].T),)),
        Slot(out + "linear.bias", (rows,), (Fill(("ends", "head_bias"), None, lambda stored: stored[: rows - 1]),)),
        *_ends_linear(out + "adaLN_modulation", "last_modulation", 2 * width, time_width),
    ]
    for i in range(architecture.layers):
        layer = f"{prefix}blocks.{i}."
        fused = tuple(block(part, "kernel", i, partial(_part, number, width)) for number, part in enumerate(PARTS))
        slots += [
            scale(layer + "norm1.weight", "norm_1", i, width, "LayerNorm"),
            Slot(layer + "attn_qkv.weight", (3 * width, width), fused),
            *linear(layer + "attn_out", "attention_out", i, width, width),
            scale(layer + "norm2.weight", "norm_2", i, width, "LayerNorm"),
            *linear(layer + "mlp.0", "up", i, 4 * width, width, bias=True),
            *linear(layer + "mlp.2", "down", i, width, 4 * width, bias=True),
            *linear(layer + "adaLN_modulation", "modulate", i, 6 * width, time_width, bias=True),
        ]
    return Description(
        architecture,
        tuple(slots),
        settings.integer("model_length", 1024),
        objective="masked",
        block_size=block_size,
        ignorable=("*rotary_emb.inv_freq", "*sampling_eps_min", "*sampling_eps_max"),
        zeros=("ends/time_in/kernel", "*/LayerNorm_0/bias"),
        writable=False,
    )


def _time(name: str, width: int) -> list[Slot]:
    """The embedding of the noise level, folded for level 0: its cosines are 1 and its sines 0, whatever t we give."""
    bias = ("ends", "time_in", "bias")
    cosines = Fill(bias, None, lambda stored: stored[:, : FREQUENCIES // 2].sum(axis=1), adds=True)
    return [
        Slot(name + "0.weight", (width, FREQUENCIES), (cosines,)),
        Slot(name + "0.bias", (width,), (Fill(bias, None, unchanged, adds=True),)),
        *_ends_linear(name + "2", "time_out", width, width),
    ]


def _ends_linear(name: str, module: str, outputs: int, inputs: int) -> list[Slot]:
    return [
        Slot(f"{name}.weight", (outputs, inputs), (Fill(("ends", module, "kernel"), None, transposed),)),
        Slot(f"{name}.bias", (outputs,), (Fill(("ends", module, "bias"), None, unchanged),)),
    ]


def _part(number: int, width: int, stored):
    return stored[number * width : (number + 1) * width].T
