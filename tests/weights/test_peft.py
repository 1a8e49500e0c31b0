"""Folders of adapters in peft's format: W + scale B A, by numpy, for Linear and Conv1D."""

import json

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.weights.save import convert
from mdlm_jax.weights.source import open_source
from tests.weights.models import LLAMA, random_tensors, write_file, write_folder
from tests.weights.test_imported import GPT2

RANK, ALPHA = 3, 12
QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


def adapter_folder(path, base, shapes, **changes):
    """Adapters of matrices, [out, in] each."""
    path.mkdir()
    generator, tensors = np.random.default_rng(3), {}
    for name, (outputs, inputs) in shapes.items():
        for half, shape in (("A", (RANK, inputs)), ("B", (outputs, RANK))):
            tensors[f"base_model.model.{name}.lora_{half}.weight"] = generator.normal(size=shape).astype(np.float32)
    write_file(path / "adapter_model.safetensors", tensors)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.05,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": ["q_proj", "down_proj"],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    (path / "adapter_config.json").write_text(json.dumps(config | changes))
    return tensors


@pytest.mark.parametrize("square_root", [False, True])
def test_adapters_are_added(tmp_path, square_root):
    base = random_tensors(LLAMA)
    write_folder(tmp_path / "base", LLAMA, base)
    shapes = {name: base[f"{name}.weight"].shape for name in (QUERY, DOWN)}
    own = adapter_folder(tmp_path / "adapter", tmp_path / "base", shapes, use_rslora=square_root)
    (tmp_path / "adapter/chat_template.jinja").write_text("x")
    convert(tmp_path / "adapter", tmp_path / "whole")
    found = open_source(tmp_path / "whole")
    assert found.files["chat_template.jinja"] == b"x"
    assert "# adapter\n" in (tmp_path / "whole/README.md").read_text()
    for name, values in base.items():
        if (module := name.removesuffix(".weight")) in shapes:
            a, b = (own[f"base_model.model.{module}.lora_{half}.weight"].astype(np.float64) for half in "AB")
            values = values + ALPHA / (RANK**0.5 if square_root else RANK) * b @ a
            np.testing.assert_allclose(found.tensors[name].read(), values, atol=1e-5, rtol=0)
        else:
            np.testing.assert_array_equal(found.tensors[name].read(), values)


def test_matrices_of_gpt2_are_stored_the_other_way(tmp_path):
    base = {f"transformer.{name}": values for name, values in random_tensors(GPT2).items()}
    write_folder(tmp_path / "base", GPT2, base)
    name = "transformer.h.1.attn.c_attn"
    inputs, outputs = base[f"{name}.weight"].shape
    shapes = {name: (outputs, inputs)}
    own = adapter_folder(tmp_path / "adapter", tmp_path / "base", shapes, fan_in_fan_out=True)
    a, b = (own[f"base_model.model.{name}.lora_{half}.weight"].astype(np.float64) for half in "AB")
    found = open_source(tmp_path / "adapter").tensors[f"{name}.weight"].read()
    np.testing.assert_allclose(found, base[f"{name}.weight"] + ALPHA / RANK * (b @ a).T, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; accepted: \"LORA\""),
        ({"bias": "all"}, "bias is 'all'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"rank_pattern": {"q": 4}}, "rank_pattern is {'q': 4}"),
        ({"base_model_name_or_path": "org/name"}, "'org/name'; accepted: the path of a model on this machine"),
        ({"base_model_name_or_path": "{adapter}"}, "accepted: a model without adapters"),
        ({"r": 0}, "r is 0; accepted: a whole number"),
        ({"r": 4}, r"lora_A of .*q_proj.weight is F32 \[3, 32\]; accepted: \[4, 32\]"),
        ({"lora_alpha": "x"}, "lora_alpha is 'x'"),
    ],
)
def test_other_adapters_are_refused(tmp_path, changes, words):
    write_folder(tmp_path / "base", LLAMA, random_tensors(LLAMA))
    changes = {key: str(tmp_path / "adapter") if value == "{adapter}" else value for key, value in changes.items()}
    adapter_folder(tmp_path / "adapter", tmp_path / "base", {QUERY: (32, 32)}, **changes)
    with pytest.raises(UserError, match=words):
        open_source(tmp_path / "adapter")


def test_tensors_without_a_matrix_are_refused(tmp_path):
    write_folder(tmp_path / "base", LLAMA, random_tensors(LLAMA))
    adapter_folder(tmp_path / "adapter", tmp_path / "base", {"model.layers.7.self_attn.q_proj": (32, 32)})
    with pytest.raises(UserError, match="model.layers.7.*is no adapter of a matrix of .*base"):
        open_source(tmp_path / "adapter")
