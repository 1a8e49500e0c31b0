"""GPT-2: learned positions, layer norms with bias, and matrices stored as [in, out]."""

from functools import partial

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.weights.description import Description, block, count_layers, embedding, head
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.slots import Fill, Slot, unchanged
from mdlm_jax.weights.tensors import Tensor

PARTS = ("query", "key", "value")


def gpt2(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    """The first row of our table of positions is the start symbol's, which the network never had: it is zero."""
    settings.only("activation_function", "gelu_new", "gelu_pytorch_tanh")
    for key, accepted in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
    ):
        settings.only(key, accepted)
    width, heads = settings.integer("n_embd", 768), settings.integer("n_head", 12)
    if width % heads:
        settings.refuse("n_head", f"a divisor of n_embd = {width}")
    rows, context = settings.integer("vocab_size", 50257), settings.integer("n_positions", 1024)
    # OpenAI's own files are of the base model, without a prefix
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    tied = settings.flag("tie_word_embeddings", True)
    architecture = Architecture(
        vocab_size=rows,
        layers=count_layers(settings, "n_layer", tensors),
        width=width,
        heads=heads,
        key_value_heads=heads,
        mlp_width=settings.integer("n_inner", 4 * width),
        mlp="gelu",
        norm="layernorm",
        norm_epsilon=settings.number("layer_norm_epsilon", 1e-5),
        rope_base=0.0,
        attention_bias=True,
        mlp_bias=True,
        tied_head=tied,
        learned_positions=context + 1,
    )
    slots = [
        embedding(prefix + "wte.weight", rows, width, None),
        Slot(prefix + "wpe.weight", (context, width), (Fill(("ends", "positions"), None, unchanged, row=1),)),
        *_norm(prefix + "ln_f", ("ends", "norm", "LayerNorm_0"), None, width),
    ]
    for i in range(architecture.layers):
        layer = f"{prefix}h.{i}."
        slots += [
            *_norm(layer + "ln_1", ("blocks", "norm_1", "LayerNorm_0"), i, width),
            *_norm(layer + "ln_2", ("blocks", "norm_2", "LayerNorm_0"), i, width),
            *_fused(layer + "attn.c_attn", i, width),
            *_matrix(layer + "attn.c_proj", "attention_out", i, width, width),
            *_matrix(layer + "mlp.c_fc", "up", i, width, architecture.mlp_width),
            *_matrix(layer + "mlp.c_proj", "down", i, architecture.mlp_width, width),
        ]
    if not tied or "lm_head.weight" in tensors:
        slots.append(head("lm_head.weight", rows, width, tied))
    return Description(architecture, tuple(slots), context, ignorable=("*attn.bias", "*attn.masked_bias"))


def _norm(name: str, module: tuple[str, ...], layer: int | None, width: int) -> list[Slot]:
    return [
        Slot(f"{name}.{stored}", (width,), (Fill((*module, leaf), layer, unchanged),))
        for stored, leaf in (("weight", "scale"), ("bias", "bias"))
    ]


def _matrix(name: str, module: str, layer: int, inputs: int, outputs: int) -> list[Slot]:
    return [
        Slot(f"{name}.weight", (inputs, outputs), (block(module, "kernel", layer),)),
        Slot(f"{name}.bias", (outputs,), (block(module, "bias", layer),)),
    ]


def _fused(name: str, layer: int, width: int) -> list[Slot]:
    """Queries, keys and values side by side."""

    def fills(leaf: str) -> tuple[Fill, ...]:
        return tuple(block(part, leaf, layer, partial(_part, number, width)) for number, part in enumerate(PARTS))

    return [
        Slot(f"{name}.weight", (width, 3 * width), fills("kernel")),
        Slot(f"{name}.bias", (3 * width,), fills("bias")),
    ]


def _part(number: int, width: int, stored):
    return stored[..., number * width : (number + 1) * width]
