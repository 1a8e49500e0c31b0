"""A GGUF file as its Hugging Face folder would be: configuration, tensors by published names, tokenizer."""

import json
import pathlib
import re
from functools import partial
from typing import Any

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.weights.gguf_file import GgufFile, open_gguf_file
from mdlm_jax.weights.gguf_tokenizer import tokenizer_files
from mdlm_jax.weights.rope_table import llama3_of
from mdlm_jax.weights.tensors import Tensor, shown

# names in a layer, blk.{i}. in the file
LLAMA_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LLAMA = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
GPT2_LAYER = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
ROPE_TABLE = "rope_freqs.weight"
LONGEST_TABLE = 4096  # pairs of a head
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
# our name of each token: the file's
SPECIALS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def open_gguf(
    path: pathlib.Path,
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str], dict[str, bytes]]:
    """Configuration, tensors, metadata and small files, as `source` reads them from a folder.

    Raises:
        UserError: The file is damaged, or of an architecture or rope scaling that is not computed here.
    """
    file = open_gguf_file(path)
    kind = file.keys.get("general.architecture")
    if kind not in ARCHITECTURES:
        accepted = ", ".join(ARCHITECTURES)
        raise UserError(f"{path}: general.architecture is {shown(str(kind))!r}; accepted: {accepted}")
    config = _gpt2_config(file) if kind == "gpt2" else _llama_config(file, kind)
    tensors = {}
    for name, tensor in file.tensors.items():
        if name == ROPE_TABLE and kind != "gpt2":
            continue
        published = _published(file, name, kind)
        if kind == "llama" and re.fullmatch(r"blk\.\d+\.attn_[qk]\.(weight|bias)", name):
            tensor = _unpermuted(file, name, tensor, config)
        if kind == "gpt2" and published.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            tensor = _turned(tensor)
        tensors[published] = tensor
    files = tokenizer_files(file)
    generation = {key: config[key] for key in SPECIALS if key in config}
    files["generation_config.json"] = (json.dumps(generation, indent=2) + "\n").encode()
    return config, tensors, {"format": "pt"}, files


def _llama_config(file: GgufFile, kind: str) -> dict[str, Any]:
    def key(name: str, default: Any = None) -> Any:
        return _plain(file.keys.get(f"{kind}.{name}", default))

    heads, width = key("attention.head_count"), key("embedding_length")
    config = {
        "architectures": [{"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[kind] + "ForCausalLM"],
        "model_type": kind,
        "vocab_size": _rows(file),
        "hidden_size": width,
        "intermediate_size": key("feed_forward_length"),
        "num_hidden_layers": key("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": key("attention.head_count_kv", heads),
        "hidden_act": "silu",
        "max_position_embeddings": key("context_length"),
        "rms_norm_eps": key("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(file, kind),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": kind == "llama" and "blk.0.attn_q.bias" in file.tensors,
    }
    size = key("attention.key_length")
    whole = isinstance(heads, int) and isinstance(width, int) and heads > 0 and not width % heads
    size = width // heads if size is None and whole else size
    if size is not None:
        config["head_dim"] = size
    turned = key("rope.dimension_count", size)
    if turned != size:
        raise UserError(f"{file.path}: {kind}.rope.dimension_count is {turned}; accepted: the head's width, {size}")
    if key("attention.value_length", size) != size:
        raise UserError(f"{file.path}: {kind}.attention.value_length is not the width of keys, {size}")
    for name in ("expert_count", "attention.sliding_window"):
        if key(name, 0):
            raise UserError(f"{file.path}: {kind}.{name} is {shown(str(key(name)))}, which is not supported")
    return config | _specials(file)


def _gpt2_config(file: GgufFile) -> dict[str, Any]:
    def key(name: str) -> Any:
        return _plain(file.keys.get(f"gpt2.{name}"))

    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": _rows(file),
        "n_embd": key("embedding_length"),
        "n_layer": key("block_count"),
        "n_head": key("attention.head_count"),
        "n_positions": key("context_length"),
        "n_inner": key("feed_forward_length"),
        "layer_norm_epsilon": key("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": "output.weight" not in file.tensors,
    } | _specials(file)


def _rope(file: GgufFile, kind: str) -> dict[str, Any]:
    def key(name: str) -> Any:
        return _plain(file.keys.get(f"{kind}.rope.{name}"))

    rope = {"rope_theta": key("freq_base") or 10000.0, "rope_type": "default"}
    scaling = key("scaling.type")
    if ROPE_TABLE in file.tensors and scaling in (None, "none"):
        return rope | _rope_of_table(file, rope["rope_theta"])
    if ROPE_TABLE in file.tensors:
        raise UserError(f"{file.path}: {ROPE_TABLE} beside {kind}.rope.scaling.type; accepted: one of the two")
    if scaling in (None, "none"):
        return rope
    if scaling not in ("linear", "yarn"):
        raise UserError(f"{file.path}: {kind}.rope.scaling.type is {shown(str(scaling))!r}; accepted: linear, yarn")
    rope |= {"rope_type": scaling, "factor": key("scaling.factor")}
    if scaling == "yarn":
        rope["original_max_position_embeddings"] = key("scaling.original_context_length")
    return rope


def _rope_of_table(file: GgufFile, base: Any) -> dict[str, Any]:
    """Llama 3's scaling, which such files hold as what each frequency is divided by."""
    table = file.tensors[ROPE_TABLE]
    if isinstance(base, float) and table.dtype == "F32" and len(table.shape) == 1 and table.shape[0] <= LONGEST_TABLE:
        found = llama3_of(table.read(), base)
        if found is not None:
            return found
    raise UserError(f"{file.path}: {ROPE_TABLE} holds no scaling of Llama 3 for base {base}; accepted: one that does")


def _specials(file: GgufFile) -> dict[str, Any]:
    found = {name: _plain(file.keys.get(f"tokenizer.ggml.{own}_token_id")) for name, own in SPECIALS.items()}
    return {name: token for name, token in found.items() if token is not None}


def _plain(value: Any) -> Any:
    """A float32 as the shortest decimal that names it: 1e-5 is stored as 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _rows(file: GgufFile) -> int:
    table = file.tensors.get("token_embd.weight")
    if table is None:
        raise UserError(f"{file.path}: tensor token_embd.weight is missing")
    return table.shape[0]


def _published(file: GgufFile, name: str, kind: str) -> str:
    """The Hugging Face name of a tensor; refused where the architecture has none."""
    ends, inside, layers = (
        (GPT2, GPT2_LAYER, "transformer.h.") if kind == "gpt2" else (LLAMA, LLAMA_LAYER, "model.layers.")
    )
    module, _, leaf = name.rpartition(".")
    if leaf in ("weight", "bias"):
        if module in ends:
            return f"{ends[module]}.{leaf}"
        found = re.fullmatch(r"blk\.(\d{1,6})\.(\w+)", module)
        if found and found[2] in inside:
            return f"{layers}{found[1]}.{inside[found[2]]}.{leaf}"
    raise UserError(f"{file.path}: {shown(name)} is not a tensor of {kind}")


def _unpermuted(file: GgufFile, name: str, tensor: Tensor, config: dict[str, Any]) -> Tensor:
    """Rows of Llama's queries and keys lie by (pair, half) in a head; published ones by (half, pair)."""
    heads = config["num_attention_heads" if ".attn_q." in name else "num_key_value_heads"]
    rows = tensor.shape[0]
    if not isinstance(heads, int) or heads < 1 or rows % (2 * heads):
        raise UserError(f"{file.path}: {shown(name)} has {rows} rows, which {shown(str(heads))} heads do not share")

    def read(stored) -> np.ndarray:
        values = stored()
        apart = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])
        return apart.swapaxes(1, 2).reshape(values.shape)

    return tensor._replace(read=partial(read, tensor.read))


def _turned(tensor: Tensor) -> Tensor:
    """A matrix as GPT-2's own files hold it, [in, out]."""
    read = tensor.read
    return tensor._replace(shape=tensor.shape[::-1], read=lambda: read().T)
