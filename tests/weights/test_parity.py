"""Logits of `transformers` on tiny random models of every supported class, in float32."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.objectives.base import causal, full
from mdlm_jax.sampling.network import reading
from mdlm_jax.weights.load import load_weights
from mdlm_jax.weights.safetensors_file import open_safetensors
from mdlm_jax.weights.save import save_weights
from tests.weights.models import first_position, logits_of
from tests.weights.test_imported import V, folder_of

pytestmark = pytest.mark.slow

SIZE = dict(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)
LLAMA_3 = dict(
    rope_theta=1e4,
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(rope_theta=1e4, rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
CASES = {
    "llama": ("Llama", SIZE),
    "llama-tied": ("Llama", SIZE | dict(tie_word_embeddings=True)),
    "llama-biases": ("Llama", SIZE | dict(attention_bias=True, mlp_bias=True, head_dim=20)),
    "llama-llama3": ("Llama", SIZE | dict(rope_parameters=LLAMA_3)),
    "llama-linear": ("Llama", SIZE | dict(rope_parameters=dict(rope_theta=1e4, rope_type="linear", factor=2.0))),
    "llama-yarn": ("Llama", SIZE | dict(rope_parameters=YARN)),
    "llama-yarn-factor": ("Llama", SIZE | dict(rope_parameters=YARN | dict(attention_factor=1.3, beta_fast=16.0))),
    "llama-theta": ("Llama", SIZE | dict(rope_parameters=dict(rope_theta=1e5, rope_type="default"))),
    "qwen2": ("Qwen2", SIZE),
    "qwen2-tied": ("Qwen2", SIZE | dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", SIZE | dict(head_dim=20)),
    "qwen3-default": ("Qwen3", SIZE),
    "gpt2": ("GPT2", dict(vocab_size=97, n_embd=48, n_layer=3, n_head=4, n_positions=64)),
    "gpt2-untied": (
        "GPT2",
        dict(vocab_size=97, n_embd=48, n_layer=3, n_head=4, n_positions=64, n_inner=72, tie_word_embeddings=False),
    ),
}
LENGTH = 40


@pytest.fixture(scope="module", params=CASES)
def both(request, tmp_path_factory):
    """(their model, ours, the folder that both were read from)"""
    import torch
    import transformers

    name, options = CASES[request.param]
    classes = getattr(transformers, f"{name}Config"), getattr(transformers, f"{name}LMHeadModel", None)
    causal_class = classes[1] or getattr(transformers, f"{name}ForCausalLM")
    torch.manual_seed(0)
    made = causal_class(classes[0](**options, attn_implementation="eager"))
    with torch.no_grad():
        for parameter in made.parameters():  # norms and biases too
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = tmp_path_factory.mktemp(request.param)
    made.save_pretrained(folder)
    return _opened(causal_class, folder), load_weights(folder), folder


def _opened(causal_class, folder):
    """Their model of a folder that lacks nothing: the library fills in what is missing at random and only warns."""
    model, told = causal_class.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(told.values()), told
    return model.eval()


def _theirs(model, ids, **options) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids)), **options).logits.numpy()


def _ids(rows: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 97, (rows, LENGTH))


def test_causal_logits(both):
    theirs, ours, _ = both
    np.testing.assert_allclose(logits_of(ours, _ids()), _theirs(theirs, _ids()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("both", [name for name in CASES if not name.startswith("gpt2")], indirect=True)
def test_bidirectional_logits(both):
    import torch

    theirs, ours, _ = both
    mask = torch.zeros(2, 1, LENGTH, LENGTH)
    expected = _theirs(theirs, _ids(), attention_mask=mask)
    assert np.abs(expected - _theirs(theirs, _ids())).max() > 1e-2
    np.testing.assert_allclose(logits_of(ours, _ids(), full), expected, atol=1e-4, rtol=0)


def test_padding_and_cache(both):
    """A shorter row padded on the left, read in two pieces and then token by token."""
    import torch

    theirs, ours, _ = both
    ids, padding = _ids(), np.array([0, 7])
    seen = np.arange(LENGTH) >= padding[:, None]
    positions = np.maximum(np.arange(LENGTH) - padding[:, None], 0)
    expected = _theirs(theirs, ids, attention_mask=torch.tensor(seen.astype(int)), position_ids=torch.tensor(positions))
    cache = ours.model.empty_cache(2, LENGTH)._replace(filled=jnp.asarray(seen))
    found, at = [], 0
    for width in (37, 1, 1, 1):
        here = jnp.asarray(positions[:, at : at + width, None] + first_position(ours))
        view = reading(jnp.asarray(ids[:, at : at + width]), here, here, jnp.zeros(2))
        hidden, cache = ours.model.hidden(ours.params, view, causal, cache=cache)
        found.append(np.asarray(ours.model.head(ours.params, hidden)))
        at += width
    found = np.concatenate(found, axis=1)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[seen], expected[seen], atol=1e-4, rtol=0)


def test_saved_folder_opens_in_transformers(both, tmp_path):
    """One file or shards: the bits are the same, and `transformers` reads them without a warning."""
    theirs, ours, folder = both
    save_weights(tmp_path / "one", ours)
    save_weights(tmp_path / "shards", ours, shard_bytes=30_000)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    before, _ = open_safetensors(folder / "model.safetensors")
    after, _ = open_safetensors(tmp_path / "one" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor.read().view(np.uint32), after[name].read().view(np.uint32), name)
    for name in ("one", "shards"):
        again = _opened(type(theirs), tmp_path / name)
        np.testing.assert_array_equal(_theirs(again, _ids()), _theirs(theirs, _ids()))
    assert json.loads((tmp_path / "one/config.json").read_text())["model_type"] == ours.source.config["model_type"]


def test_dream_is_qwen2_both_ways_and_shifted(tmp_path):
    """Logits of Qwen2 under a mask of zeros; in decoding the place of a token is predicted at the one before."""
    import torch
    import transformers

    size = SIZE | {"vocab_size": V, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False}
    torch.manual_seed(0)
    made = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**size, attn_implementation="eager"))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    tensors = {name: value.numpy() for name, value in made.state_dict().items()}
    config = {"model_type": "Dream", "architectures": ["DreamModel"], "mask_token_id": 200, "use_mrope": False}
    config |= {"sliding_window": None, "use_sliding_window": False, "rope_scaling": None, "hidden_act": "silu"}
    folder = folder_of(tmp_path / "dream", config | size, tensors)

    def theirs(ids):
        zeros = torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1])
        return _theirs(made.eval(), ids, attention_mask=zeros).astype(np.float64)

    ids = np.random.default_rng(1).integers(0, V, (2, LENGTH))
    np.testing.assert_allclose(logits_of(load_weights(folder), ids, full), theirs(ids), atol=1e-4, rtol=0)
    (drawn,) = mj.sample(folder, prompts=["ab c"], length=12, sampler="confidence:temperature=0")
    row, nats = np.array([[*b"ab c", *[200] * 8]]), np.zeros(12)
    row[0, :4] = np.asarray(drawn.tokens)[0, :4]
    for _ in range(8):
        raw = theirs(row)
        logits = np.concatenate([raw[:, :1], raw[:, :-1]], axis=1)[0]  # the published shift
        logits[:, 200] = -np.inf
        here = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        at = int(np.where(row[0] == 200, here.max(-1), -np.inf).argmax())
        row[0, at], nats[at] = here[at].argmax(), here[at].max()
    assert np.asarray(drawn.tokens).tolist() == row.tolist()
    np.testing.assert_allclose(drawn.trace.log_probability[0], nats, atol=1e-3)
