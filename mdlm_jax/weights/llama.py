"""Llama, SmolLM2, TinyLlama, Qwen2, Qwen2.5, Qwen3, and the diffusion models made of them: Dream and SDAR."""

import numpy as np

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.weights.description import Description, count_layers, embedding, head, last_scale, linear, scale
from mdlm_jax.weights.rope import rope_of
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.tensors import Tensor

HEAD_NAME, EMBEDDING_NAME = "lm_head.weight", "model.embed_tokens.weight"


def llama(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    return _describe(settings, tensors, biases=settings.flag("attention_bias"))


def qwen2(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    """Biases on queries, keys and values, which no key of the configuration mentions."""
    return _describe(settings, tensors, qkv_bias=True)


def qwen3(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    """Heads are 128 wide by default, independent of the width."""
    biases = settings.flag("attention_bias")
    return _describe(settings, tensors, biases=biases, qk_norm=True, head_size=128)


def dream(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    """Qwen2 that sees both ways and predicts the next position's token."""
    settings.only("use_mrope", False)
    found = qwen2(settings, tensors)
    return _masked(settings, found)._replace(shift=True)


def sdar(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    """Qwen3 in blocks, each position predicting its own token."""
    found = qwen3(settings, tensors)
    return _masked(settings, found)._replace(block_size=settings.integer("block_size", 4))


def _masked(settings: Settings, found: Description) -> Description:
    rows = found.architecture.vocab_size
    mask_id = settings.token("mask_token_id", rows)
    if mask_id is None:
        settings.refuse("mask_token_id", "the id of the mask, which differs from release to release")
    slots = tuple(
        embedding(EMBEDDING_NAME, rows, found.architecture.width, mask_id) if slot.name == EMBEDDING_NAME else slot
        for slot in found.slots
    )
    return found._replace(slots=slots, objective="masked", mask_id=mask_id)


def _describe(
    settings: Settings,
    tensors: dict[str, Tensor],
    *,
    biases: bool = False,
    qkv_bias: bool = False,
    qk_norm: bool = False,
    head_size: int = 0,
) -> Description:
    settings.only("hidden_act", "silu", "swish")
    _refuse_windows(settings)
    width, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    key_heads = settings.integer("num_key_value_heads", heads)
    if heads % key_heads:
        settings.refuse("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    if not head_size and width % heads and settings.get("head_dim", None) is None:
        settings.refuse("num_attention_heads", f"a divisor of hidden_size = {width}, or head_dim given")
    head_size = settings.integer("head_dim", head_size or width // heads)
    rows, mlp_width = settings.integer("vocab_size"), settings.integer("intermediate_size")
    base, scaling = rope_of(settings, head_size)
    tied = _tied(settings, tensors)
    mlp_bias = settings.flag("mlp_bias")
    architecture = Architecture(
        vocab_size=rows,
        layers=count_layers(settings, "num_hidden_layers", tensors),
        width=width,
        heads=heads,
        key_value_heads=key_heads,
        mlp_width=mlp_width,
        norm_epsilon=settings.number("rms_norm_eps", 1e-6),
        rope_base=base,
        rope_scaling=scaling,
        qk_norm=qk_norm,
        attention_bias=biases,
        qkv_bias=qkv_bias,
        mlp_bias=mlp_bias,
        tied_head=tied,
        head_size=0 if head_size * heads == width else head_size,
    )
    slots = [embedding(EMBEDDING_NAME, rows, width, None)]
    for i in range(architecture.layers):
        layer = f"model.layers.{i}."
        attention, mlp = layer + "self_attn.", layer + "mlp."
        slots += [
            scale(layer + "input_layernorm.weight", "norm_1", i, width),
            *linear(attention + "q_proj", "query", i, heads * head_size, width, biases or qkv_bias),
            *linear(attention + "k_proj", "key", i, key_heads * head_size, width, biases or qkv_bias),
            *linear(attention + "v_proj", "value", i, key_heads * head_size, width, biases or qkv_bias),
            *linear(attention + "o_proj", "attention_out", i, width, heads * head_size, biases),
            scale(layer + "post_attention_layernorm.weight", "norm_2", i, width),
            *linear(mlp + "gate_proj", "gate", i, mlp_width, width, mlp_bias),
            *linear(mlp + "up_proj", "up", i, mlp_width, width, mlp_bias),
            *linear(mlp + "down_proj", "down", i, width, mlp_width, mlp_bias),
        ]
        if qk_norm:
            slots += [
                scale(attention + "q_norm.weight", "query_norm", i, head_size),
                scale(attention + "k_norm.weight", "key_norm", i, head_size),
            ]
    slots.append(last_scale("model.norm.weight", width))
    if not tied or HEAD_NAME in tensors:
        slots.append(head(HEAD_NAME, rows, width, tied))
    context = settings.integer("max_position_embeddings", 2048)
    return Description(architecture, tuple(slots), context, ignorable=("*.rotary_emb.inv_freq",))


def _tied(settings: Settings, tensors: dict[str, Tensor]) -> bool:
    """Whether the head is the embedding: what the configuration says, unless a stored head contradicts it."""
    if not settings.flag("tie_word_embeddings"):
        return False
    stored, own = tensors.get(HEAD_NAME), tensors.get(EMBEDDING_NAME)
    if stored is None or own is None or stored.shape != own.shape:
        return True
    return stored.dtype == own.dtype and np.array_equal(stored.read().view(np.uint8), own.read().view(np.uint8))


def _refuse_windows(settings: Settings) -> None:
    """Refuses a sliding window, which the network does not compute; one that is switched off is accepted."""
    on = settings.flag(
        "use_sliding_window", settings.values.get("model_type") not in ("qwen2", "qwen3", "Dream", "sdar")
    )
    if on and settings.get("sliding_window", None) is not None:
        settings.refuse("sliding_window", "null: sliding windows are not supported")
    types = settings.get("layer_types", [])
    if not isinstance(types, list) or any(kind != "full_attention" for kind in types):
        settings.refuse("layer_types", "full_attention in every layer: sliding windows are not supported")
