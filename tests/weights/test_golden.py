"""Logits of the public code of LLaDA, SDAR and BD3-LM, from folders with their own layouts and names."""

import numpy as np
import pytest

from mdlm_jax.objectives.base import full
from mdlm_jax.weights.load import load_weights
from tests import public_data
from tests.weights.models import logits_of, write_folder


def block_causal(size):
    return lambda query, key: key // size <= query // size


def folder_of(path, arrays, prefix, config, rename=""):
    tensors = {rename + name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    return write_folder(path, config, tensors)


@pytest.mark.parametrize(("prefix", "logits", "key_heads"), [("w/", "logits_out", 4), ("wgqa/", "logits_out_gqa", 2)])
def test_llada(tmp_path, prefix, logits, key_heads):
    arrays, told = public_data.golden("llada_fastdllm_v1")
    config = told["tiny_config"] | {"model_type": "llada", "n_kv_heads": key_heads}
    found = load_weights(folder_of(tmp_path, arrays, prefix, config))
    assert found.source.description.mask_id == 126
    embedding = np.asarray(found.params["ends"]["embedding"]["embedding"])
    np.testing.assert_array_equal(embedding[-1], embedding[126])  # what samplers call the mask reads as theirs
    np.testing.assert_allclose(logits_of(found, arrays["logits_in"], full), arrays[logits], atol=2e-5, rtol=0)


def test_sdar(tmp_path):
    arrays, told = public_data.golden("sdar")
    found = load_weights(folder_of(tmp_path, arrays, "w/", told["config"] | {"model_type": "sdar"}))
    assert found.source.description[3:7] == ("masked", 126, 4, False)
    expected = arrays["logits_block_causal_b4"]
    np.testing.assert_allclose(logits_of(found, arrays["logits_in"], block_causal(4)), expected, atol=2e-5, rtol=0)


def test_bd3lm(tmp_path):
    """Blocks of 4 in the sampling mode of the public code; all columns but the mask's."""
    arrays, told = public_data.golden("bd3lm")
    config = {
        "model_type": "bd3lm",
        "vocab_size": told["V"],
        "hidden_dim": 64,
        "n_heads": 4,
        "n_blocks": 3,
        "cond_dim": 129,  # the published default, one more than the tensors have
        "block_size": told["block"],
        "model_length": told["L"],
        "time_conditioning": False,
    }
    found = load_weights(folder_of(tmp_path, arrays, "w/", config, rename="backbone."))
    expected = arrays["raw_logits_sample_mode"][..., : told["mask_index"]]
    read = arrays["xt"][:, : expected.shape[1]]
    np.testing.assert_allclose(logits_of(found, read, block_causal(4)), expected, atol=5e-5, rtol=0)
