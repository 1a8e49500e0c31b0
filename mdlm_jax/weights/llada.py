"""LLaDA-8B, LLaDA 1.5 and iLLaDA (arXiv 2502.09992): Llama's network under OLMo's names, both ways, no shift."""

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.weights.description import Description, count_layers, embedding, head, last_scale, linear, scale
from mdlm_jax.weights.rope import rope_of
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.tensors import Tensor

MASK_ID = 126336  # of LLaDA-8B, where the configuration names none


def llada(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    for key, *accepted in (
        ("block_type", "llama"),
        ("block_group_size", 1),
        ("layer_norm_type", "rms"),
        ("layer_norm_with_affine", True),
        ("bias_for_layer_norm", False, None),
        ("activation_type", "silu"),
        ("alibi", False),
        ("rope", True),
        ("input_emb_norm", False),
        ("scale_logits", False),
        ("attention_layer_norm", False),
        ("include_bias", False),
    ):
        settings.only(key, *accepted)
    width, heads = settings.integer("d_model"), settings.integer("n_heads")
    key_heads = settings.integer("n_kv_heads", heads)
    if width % heads or heads % key_heads:
        settings.refuse("n_heads", f"a divisor of d_model = {width} and a multiple of n_kv_heads = {key_heads}")
    size = width // heads
    # the rows of the embedding and the columns of the logits; the tokenizer may have fewer
    rows = settings.integer("embedding_size", settings.integer("vocab_size"))
    mlp_width = settings.integer("mlp_hidden_size")
    base, scaling = rope_of(settings, size)
    tied, qkv_bias = settings.flag("weight_tying"), settings.flag("include_qkv_bias")
    mask_id = settings.token("mask_token_id", rows)
    if mask_id is None and rows <= MASK_ID:
        settings.refuse("mask_token_id", "the id of the mask")
    architecture = Architecture(
        vocab_size=rows,
        layers=count_layers(settings, "n_layers", tensors),
        width=width,
        heads=heads,
        key_value_heads=key_heads,
        mlp_width=mlp_width,
        norm_epsilon=settings.number("rms_norm_eps", 1e-5),
        rope_base=base,
        rope_scaling=scaling,
        qkv_bias=qkv_bias,
        tied_head=tied,
    )
    mask_id = MASK_ID if mask_id is None else mask_id
    slots = [embedding("model.transformer.wte.weight", rows, width, mask_id)]
    for i in range(architecture.layers):
        layer = f"model.transformer.blocks.{i}."
        slots += [
            scale(layer + "attn_norm.weight", "norm_1", i, width),
            *linear(layer + "q_proj", "query", i, width, width, qkv_bias),
            *linear(layer + "k_proj", "key", i, key_heads * size, width, qkv_bias),
            *linear(layer + "v_proj", "value", i, key_heads * size, width, qkv_bias),
            *linear(layer + "attn_out", "attention_out", i, width, width),
            scale(layer + "ff_norm.weight", "norm_2", i, width),
            *linear(layer + "ff_proj", "gate", i, mlp_width, width),
            *linear(layer + "up_proj", "up", i, mlp_width, width),
            # a block's `ff_out` is its down projection, the model's own is the head
            *linear(layer + "ff_out", "down", i, width, mlp_width),
        ]
    slots.append(last_scale("model.transformer.ln_f.weight", width))
    if not tied:
        slots.append(head("model.transformer.ff_out.weight", rows, width, tied))
    context = settings.integer("max_sequence_length", 4096)
    return Description(architecture, tuple(slots), context, objective="masked", mask_id=mask_id)
