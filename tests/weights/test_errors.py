"""A damaged or unknown checkpoint gives one line with the file and the fault, before any weights are loaded."""

import json
import pathlib
import struct

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.weights.load import load_weights
from mdlm_jax.weights.save import save_weights
from mdlm_jax.weights.source import open_source
from tests.weights.models import LLAMA, random_tensors, write_file, write_folder

QUERY = "model.layers.1.self_attn.q_proj.weight"


def refused(path, *words):
    with pytest.raises(UserError) as raised:
        open_source(path)
    text = str(raised.value)
    assert "\n" not in text
    for word in (str(path), *words):
        assert word in text, text


@pytest.fixture
def tensors():
    return random_tensors(LLAMA)


def test_wrong_tensors_in_one_line(tmp_path, tensors):
    """The line names missing, extra and misshapen tensors."""
    del tensors[QUERY]
    tensors["model.layers.2.self_attn.q_proj.weight"] = tensors["model.norm.weight"]
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1]
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1]
    refused(
        write_folder(tmp_path, LLAMA, tensors),
        f"1 missing ({QUERY})",
        "1 not of this architecture (model.layers.2.self_attn.q_proj.weight in model.safetensors)",
        "lm_head.weight in model.safetensors, [60, 32] instead of [61, 32]",
    )


def test_old_buffers_are_ignored(tmp_path, tensors):
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    open_source(write_folder(tmp_path, LLAMA, tensors))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, ("model_type is 'mamba'", "llama, qwen2")),
        ({"model_type": None}, ("model_type is None",)),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, ("rope_type is 'dynamic'", "llama3, yarn")),
        ({"rope_scaling": {"rope_type": "longrope"}}, ("rope_type is 'longrope'",)),
        ({"rope_scaling": {"rope_type": "linear"}}, ("factor must be given",)),
        ({"partial_rotary_factor": 0.5}, ("partial_rotary_factor is 0.5",)),
        ({"sliding_window": 16}, ("sliding_window is 16", "not supported")),
        ({"layer_types": ["sliding_attention"] * 2}, ("layer_types", "not supported")),
        ({"hidden_act": "gelu"}, ("hidden_act is 'gelu'",)),
        ({"quantization_config": {"bits": 4}}, ("quantization_config",)),
        ({"num_key_value_heads": 3}, ("num_key_value_heads is 3", "a divisor")),
        ({"hidden_size": "32"}, ("hidden_size is '32'", "a whole number")),
        ({"hidden_size": 10**30}, ("hidden_size",)),
        ({"num_hidden_layers": 10**9}, ("num_hidden_layers", "at most the number of tensors, 21")),
        ({"rms_norm_eps": -1.0}, ("rms_norm_eps is -1.0",)),
        ({"tie_word_embeddings": "yes"}, ("tie_word_embeddings is 'yes'",)),
    ],
)
def test_unsupported_configurations(tmp_path, tensors, change, words):
    refused(write_folder(tmp_path, LLAMA | change, tensors), *words)


def test_disabled_window_is_ignored(tmp_path):
    config = LLAMA | {"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False}
    open_source(write_folder(tmp_path, config, random_tensors(config)))


def test_stored_head_decides_tying(tmp_path, tensors):
    config = LLAMA | {"tie_word_embeddings": True}
    assert not load_weights(write_folder(tmp_path / "1", config, tensors)).model.architecture.tied_head
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    assert load_weights(write_folder(tmp_path / "2", config, tensors)).model.architecture.tied_head
    del tensors["lm_head.weight"]
    assert load_weights(write_folder(tmp_path / "3", config, tensors)).model.architecture.tied_head
    refused(write_folder(tmp_path / "4", LLAMA, tensors), "1 missing (lm_head.weight)")


def test_damaged_files(tmp_path, tensors):
    folder = write_folder(tmp_path / "whole", LLAMA, tensors)
    whole = (folder / "model.safetensors").read_bytes()
    damaged = {
        "cut": whole[:-1],
        "long": whole + b"\0",
        "empty": b"",
        "short": whole[:5],
        "huge": struct.pack("<Q", 2**60) + whole[8:],
        "text": b"hello world, this is no header",
    }
    for name, content in damaged.items():
        (folder / "model.safetensors").write_bytes(content)
        refused(folder, "model.safetensors")
        (tmp_path / f"{name}.gguf").write_bytes(content)
        refused(tmp_path / f"{name}.gguf")
    twice = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(twice)) + twice + b"\0" * 4)
    refused(folder, "'a' is there twice")
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text('{"model_type": NaN}')
    refused(folder, "config.json", "not JSON")
    refused(tmp_path / "nothing", "no such file or folder")
    refused(folder / "config.json", "not a checkpoint by its name")


@pytest.mark.parametrize("base", ["~nosuch/x", "x" * 5000, "~\0", "\ud800"])
def test_models_of_adapters_that_no_path_names(tmp_path, base):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    refused(tmp_path, "adapter_config.json: base_model_name_or_path is", "the path of a model on this machine")
    refused(pathlib.Path("~nosuch/x"), "no such file or folder")


def test_pickles_are_never_read(tmp_path, capfd):
    """Loading this pickle would print a line."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cbuiltins\nprint\n(S'loaded'\ntR.")
    refused(tmp_path, "pytorch_model.bin: a pickle")
    assert capfd.readouterr() == ("", "")


def test_shards(tmp_path, tensors):
    half = len(tensors) // 2
    parts = {"a.safetensors": dict(list(tensors.items())[:half]), "b.safetensors": dict(list(tensors.items())[half:])}
    where = {name: file for file, part in parts.items() for name in part}
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))

    def index(weight_map):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    for file, part in parts.items():
        write_file(tmp_path / file, part)
    refused(tmp_path, "2 safetensors files without model.safetensors.index.json")
    index(where)
    assert open_source(tmp_path).tensors.keys() == tensors.keys()
    index(where | {QUERY: "../b.safetensors"})
    refused(tmp_path, "index.json", "'../b.safetensors' is not the name of a safetensors file")
    index(where | {QUERY: "c.safetensors"})
    refused(tmp_path, "c.safetensors: no such file")
    other = "a.safetensors" if where[QUERY] == "b.safetensors" else "b.safetensors"
    index(where | {QUERY: other})
    refused(tmp_path, f"{where[QUERY]}: {QUERY} is in this file")
    index({name: file for name, file in where.items() if name != QUERY})
    refused(tmp_path, f"{QUERY} is in this file")
    index(where | {"extra": "a.safetensors"})
    refused(tmp_path, "a.safetensors: extra is missing")
    index([])
    refused(tmp_path, "weight_map is not an object")


def test_parameters_that_a_folder_cannot_hold(tmp_path, tensors):
    weights = load_weights(write_folder(tmp_path / "model", LLAMA, tensors))
    blocks = dict(weights.params["blocks"])
    for changed, words in (
        (
            blocks | {"adapter": {"kernel": np.zeros((2, 3))}},
            r"blocks/adapter/kernel of shape \(2, 3\); accepted: None",
        ),
        ({name: leaf for name, leaf in blocks.items() if name != "query"}, "blocks/query/kernel of shape None"),
        (
            blocks | {"query": {"kernel": np.zeros((2, 32, 8))}},
            r"query/kernel of shape \(2, 32, 8\); accepted: \(2, 32, 32\)",
        ),
    ):
        with pytest.raises(UserError, match=words):
            save_weights(tmp_path / "out", weights._replace(params={**weights.params, "blocks": changed}))
    assert not (tmp_path / "out").exists()
