"""GGUF files written by the `gguf` library, against the tensors in them."""

import gguf
import numpy as np
import pytest
import tokenizers
from gguf import GGMLQuantizationType as Kind

from mdlm_jax.errors import UserError
from mdlm_jax.weights.gguf_model import GPT2, GPT2_LAYER, LLAMA, LLAMA_LAYER
from mdlm_jax.weights.load import load_weights
from mdlm_jax.weights.rope_table import llama3_of
from mdlm_jax.weights.source import open_source
from mdlm_jax.weights.text import open_text
from tests.weights import models

SIZE = models.LLAMA | {"hidden_size": 64, "intermediate_size": 96, "rms_norm_eps": 1e-6}
MADE = [
    Kind.F32,
    Kind.F16,
    Kind.BF16,
    Kind.Q8_0,
    Kind.Q4_0,
    Kind.Q4_1,
    Kind.Q5_0,
    Kind.Q5_1,
]


def permuted(rows, heads):
    """llama.cpp's order of the rows of queries and keys, from the published one."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def file_names(kind, config):
    """The file's name of each tensor."""
    ends, inside, layers = (
        (GPT2, GPT2_LAYER, "transformer.h.") if kind == "gpt2" else (LLAMA, LLAMA_LAYER, "model.layers.")
    )
    names = {published: own for own, published in ends.items()}
    for i in range(config["n_layer" if kind == "gpt2" else "num_hidden_layers"]):
        names |= {f"{layers}{i}.{published}": f"blk.{i}.{own}" for own, published in inside.items()}
    return names


def write_gguf(path, config, tensors, quantised=Kind.F32, keys=None, divisors=None):
    kind = config["model_type"]
    writer = gguf.GGUFWriter(path, kind)
    if kind == "gpt2":
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(4 * config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        if "head_dim" in config:
            writer.add_key_length(config["head_dim"])
            writer.add_value_length(config["head_dim"])
            writer.add_rope_dimension_count(config["head_dim"])
    for add, *values in keys or ():
        getattr(writer, add)(*values)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    names = file_names(kind, config)
    for name, values in tensors.items():
        module, _, leaf = name.rpartition(".")
        if kind == "llama" and module.endswith(("q_proj", "k_proj")):
            heads = config["num_attention_heads" if "q_proj" in module else "num_key_value_heads"]
            values = permuted(values, heads)
        if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            values = values.T
        stored = quantised if values.ndim > 1 else Kind.F32
        packed = gguf.quants.quantize(np.ascontiguousarray(values), stored)
        own = names[f"transformer.{module}" if kind == "gpt2" else module]
        writer.add_tensor(f"{own}.{leaf}", packed, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(path):
    found = load_weights(path)
    ids = np.random.default_rng(3).integers(0, 61, (1, 12))
    return models.logits_of(found, ids)


@pytest.mark.parametrize(
    "config",
    [
        SIZE,
        SIZE | {"attention_bias": True, "tie_word_embeddings": True},
        SIZE | {"model_type": "qwen2"},
        SIZE | {"model_type": "qwen3", "head_dim": 24},
        {"model_type": "gpt2", "vocab_size": 61, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32},
    ],
    ids=["llama", "llama-biases-tied", "qwen2", "qwen3", "gpt2"],
)
def test_architectures(tmp_path, config):
    """The same logits from the file as from a Hugging Face folder."""
    tensors = models.random_tensors(config)
    if config["model_type"] == "llama" and config.get("attention_bias"):
        tensors = {name: value for name, value in tensors.items() if name != "lm_head.weight"}
    folder = models.write_folder(tmp_path / "folder", config, tensors)
    file = write_gguf(tmp_path / "model.gguf", config, tensors)
    np.testing.assert_array_equal(logits(file), logits(folder))


@pytest.mark.parametrize("kind", MADE, ids=[kind.name for kind in MADE])
def test_types(tmp_path, kind):
    """The library encodes and decodes these; values stay near the encoded ones."""
    tensors = models.random_tensors(SIZE)
    source = open_source(write_gguf(tmp_path / "model.gguf", SIZE, tensors, kind))
    error = {"F32": 0, "F16": 1e-3, "BF16": 1e-2, "Q8_0": 1e-2}.get(kind.name, 0.15)
    for name, values in tensors.items():
        np.testing.assert_allclose(source.tensors[name].read().astype(np.float32), values, atol=error, rtol=0)


@pytest.mark.parametrize("kind", [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K], ids=lambda kind: kind.name)
def test_k_quants(tmp_path, kind):
    """The library only decodes these, so the blocks are random bytes with finite scales."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    packed = np.random.default_rng(4).integers(0, 256, (3, 2 * size), np.uint8)
    packed[:, 1::2] &= 0x3B  # halves that are neither infinite nor NaN, wherever a scale is
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    from mdlm_jax.weights.gguf_file import open_gguf_file

    tensor = open_gguf_file(tmp_path / "model.gguf").tensors["token_embd.weight"]
    assert tensor.shape == (3, 2 * block)
    np.testing.assert_array_equal(tensor.read(), gguf.quants.dequantize(packed, kind))


def byte_pairs(pre):
    """A vocabulary of bytes, three merges, and a control token."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, "ĠĠ", "ab", "12", "<|end|>"]
    keys = [
        ("add_tokenizer_model", "gpt2"),
        ("add_tokenizer_pre", pre),
        ("add_token_list", tokens),
        ("add_token_types", [1] * (len(tokens) - 1) + [3]),
        ("add_token_merges", ["Ġ Ġ", "a b", "1 2"]),
        ("add_eos_token_id", len(tokens) - 1),
        ("add_chat_template", "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"),
    ]
    return tokens, keys


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("gpt-2", "a  2024", ["a", "Ġ", "Ġ", "2", "0", "2", "4"]),
        ("smollm", "a  2024", ["a", "ĠĠ", "2", "0", "2", "4"]),
        ("llama-bpe", "ab  12", ["ab", "Ġ", "Ġ", "12"]),
        ("qwen2", "ab  12", ["ab", "Ġ", "Ġ", "1", "2"]),
        ("qwen2", "ab\n\n  x", ["ab", "Ċ", "Ċ", "Ġ", "Ġ", "x"]),
    ],
)
def test_pre_tokenizers(tmp_path, pre, text, expected):
    tokens, keys = byte_pairs(pre)
    config = SIZE | {"vocab_size": len(tokens)}
    source = open_source(write_gguf(tmp_path / "model.gguf", config, models.random_tensors(config), keys=keys))
    found = open_text(source)
    assert [tokens[token] for token in found.encode(text)] == expected
    assert found.decode(found.encode(text)) == text
    assert found.specials == {"eos": len(tokens) - 1}
    assert found.chat([{"role": "user", "content": "ab"}]) == "ab<|end|>"
    # markup in a person's text is text; what the template writes is a token
    assert len(found.encode("ab<|end|>")) == 1 + len("<|end|>")
    assert found.encode("ab<|end|>", control=True).tolist() == [tokens.index("ab"), len(tokens) - 1]


def test_unknown_pre_tokenizer_is_refused(tmp_path):
    tokens, keys = byte_pairs("viking")
    config = SIZE | {"vocab_size": len(tokens)}
    path = write_gguf(tmp_path / "model.gguf", config, models.random_tensors(config), keys=keys)
    with pytest.raises(UserError, match="model.gguf: tokenizer.ggml.pre is 'viking'; accepted: gpt-2, smollm"):
        open_source(path)


def test_sentencepiece_scores(tmp_path):
    """The neighbours whose joined piece scores highest are merged first; bytes encode text without a piece."""
    pieces = {"<unk>": 0, "▁": -9, "a": -8, "b": -7, "c": -6, "▁a": -5, "bc": -1, "ab": -2, "▁ab": -3}
    tokens = [*pieces, *(f"<0x{byte:02X}>" for byte in range(256))]
    keys = [
        ("add_tokenizer_model", "llama"),
        ("add_token_list", tokens),
        ("add_token_scores", [*map(float, pieces.values()), *[-99.0] * 256]),
        ("add_token_types", [2, *[1] * (len(pieces) - 1), *[6] * 256]),
    ]
    config = SIZE | {"vocab_size": len(tokens)}
    source = open_source(write_gguf(tmp_path / "model.gguf", config, models.random_tensors(config), keys=keys))
    found = open_text(source)
    assert [tokens[token] for token in found.encode("abc")] == ["▁a", "bc"]
    assert [tokens[token] for token in found.encode("ab")] == ["▁ab"]
    assert [tokens[token] for token in found.encode("é")] == ["▁", "<0xC3>", "<0xA9>"]
    assert found.decode(found.encode("abc é")) == "abc é"


LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def divisors_of(size, base, factor, low, high, original):
    """What llama.cpp's converter stores for Llama 3: each wavelength by itself."""
    table = []
    for j in range(size // 2):
        wavelength = 2 * np.pi * base ** (2 * j / size)
        if wavelength < original / high:
            table.append(1.0)
        elif wavelength > original / low:
            table.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            table.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(table, np.float32)


def test_rope_table(tmp_path):
    """The same logits as from a folder that gives the parameters."""
    tensors = models.random_tensors(SIZE)
    file = write_gguf(tmp_path / "a.gguf", SIZE, tensors, divisors=divisors_of(16, 1e4, 8.0, 1.0, 4.0, 64))
    assert open_source(file).config["rope_parameters"] == LLAMA_3 | {"rope_theta": 1e4}
    folder = models.write_folder(tmp_path / "folder", SIZE | {"rope_scaling": LLAMA_3}, tensors)
    np.testing.assert_array_equal(logits(file), logits(folder))
    plain = write_gguf(tmp_path / "b.gguf", SIZE, tensors, divisors=np.ones(8, np.float32))
    assert abs(logits(plain) - logits(file)).max() > 1e-3


@pytest.mark.parametrize(
    ("size", "base", "factor", "low", "high", "original"),
    [(64, 5e5, 32.0, 1.0, 4.0, 8192), (128, 5e5, 8.0, 1.0, 4.0, 8192), (128, 1e4, 4.0, 2.0, 5.0, 3000)],
)
def test_parameters_of_a_rope_table(size, base, factor, low, high, original):
    """Those of Llama 3.2, Llama 3.1, and others, of which only the ratios count."""
    found = llama3_of(divisors_of(size, base, factor, low, high, original), base)
    assert found == LLAMA_3 | {
        "factor": factor,
        "high_freq_factor": high / low,
        "original_max_position_embeddings": original / low,
    }


def test_other_rope_tables_are_refused(tmp_path):
    tensors = models.random_tensors(SIZE)
    for divisors in (np.arange(1, 9), [1, 1, 1, 1, 8, 8, 8, 8], [1, 2, 3, np.nan, 8, 8, 8, 8], np.zeros(8)):
        table = np.asarray(divisors, np.float32)
        with pytest.raises(UserError, match="rope_freqs.weight holds no scaling of Llama 3 for base 10000.0"):
            open_source(write_gguf(tmp_path / "model.gguf", SIZE, tensors, divisors=table))


def test_unsupported_keys_are_named(tmp_path):
    tensors = models.random_tensors(SIZE)
    path = tmp_path / "model.gguf"
    for keys, words in (
        ([("add_rope_scaling_type", gguf.RopeScalingType.LONGROPE)], "rope.scaling.type is 'longrope'"),
        ([("add_expert_count", 8)], "expert_count is 8"),
        ([("add_sliding_window", 16)], "sliding_window is 16"),
        ([("add_rope_dimension_count", 8)], "rope.dimension_count is 8"),
    ):
        with pytest.raises(UserError, match=words):
            open_source(write_gguf(path, SIZE, tensors, keys=keys))
    writer = gguf.GGUFWriter(path, "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="model.gguf: general.architecture is 'mamba'; accepted: llama"):
        open_source(path)
