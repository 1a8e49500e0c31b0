"""A public model's folder in place of a run: sampled, evaluated and converted."""

import numpy as np
import pytest
import tokenizers

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.runs.held_out import DataOptions, open_held_out
from mdlm_jax.weights.load import load_weights
from tests.weights.models import LLAMA, logits_of, random_tensors, write_folder

ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
V = len(ALPHABET) + 1
SIZES = {"vocab_size": V, "max_position_embeddings": 64}
GPT2 = {"model_type": "gpt2", "vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
CONFIGS = {
    "llama": LLAMA | SIZES,
    "qwen2": LLAMA | SIZES | {"model_type": "qwen2"},
    "qwen3": LLAMA | SIZES | {"model_type": "qwen3", "head_dim": 12},
    "gpt2": GPT2,
}
SDAR = CONFIGS["qwen3"] | {"model_type": "sdar", "mask_token_id": V - 1, "block_size": 4}


def folder_of(path, config):
    """A checkpoint with a tokenizer of bytes."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(ALPHABET)}, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    model.add_special_tokens(["<|endoftext|>"])
    write_folder(path, config, random_tensors(config))
    (path / "tokenizer.json").write_text(model.to_str())
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_samples(tmp_path, name):
    """The sampler with its cache draws the likeliest tokens of the logits of whole rows."""
    folder = folder_of(tmp_path / name, CONFIGS[name])
    (drawn,) = mj.sample(folder, prompts=["ab c"], length=12, sampler="autoregressive:temperature=0")
    weights, tokens = load_weights(folder), np.asarray(drawn.tokens)
    best = logits_of(weights, tokens)[0].argmax(-1)
    assert tokens[0, 4:].tolist() == best[3:-1].tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_matches_the_logits(tmp_path, name):
    folder = folder_of(tmp_path / name, CONFIGS[name])
    text = tmp_path / "text.txt"
    text.write_text("".join(map(chr, np.random.default_rng(5).integers(97, 123, 4000))))
    found = mj.evaluate(folder, data=str(text), source="text", sequences=3, length=20)
    rows = open_held_out(mj.open_run(folder), folder, 3, DataOptions(str(text), "text", sequence_length=20)).rows.tokens
    assert rows.shape == (3, 21) and found["tokens"] == 60 and found["bound"] == "exact"
    logits = logits_of(load_weights(folder), rows)[:, :-1].astype(np.float64)
    norm = np.log(np.exp(logits).sum(-1))
    nats = norm - np.take_along_axis(logits, np.asarray(rows)[:, 1:, None], -1)[..., 0]
    assert found["nats_per_token"] == pytest.approx(nats.mean(), abs=1e-5)


def test_block_model_is_sampled(tmp_path):
    folder = folder_of(tmp_path / "sdar", SDAR)
    (drawn,) = mj.sample(folder, prompts=["abcd"], length=12)
    assert drawn.tokens.shape == (1, 12) and int(drawn.trace.evaluations[0]) > 0


def test_convert_and_sample_commands(tmp_path, capsys):
    folder = folder_of(tmp_path / "llama", CONFIGS["llama"])
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(folder), "--out", str(tmp_path / "copy"), "--dtype", "bfloat16"])
    assert ended.value.code == 0 and "llama, " in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["sample", "--model", str(tmp_path / "copy"), "--prompt", "ab", "--length", "8"])
    assert ended.value.code == 0 and "ab" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "{}", "--out", "{}"], "is there already"),
        (["convert", "{}/model.safetensors/x", "--out", "{}2"], "no such file or folder"),
        (["convert", "{}", "--out", "{}2", "--dtype", "int8"], "dtype 'int8'; accepted: float32"),
        (["sample", "--model", "{}", "--prompt", ""], "a start symbol"),
        (["sample", "--model", "{}", "--prompt", "a", "--length", "65"], "accepted is 1 to 64"),
        (["evaluate", "--model", "{}", "--length", "65"], "--length=65; accepted: 1 to 64"),
    ],
)
def test_refusals(tmp_path, capsys, arguments, words):
    folder = folder_of(tmp_path / "llama", CONFIGS["llama"])
    with pytest.raises(SystemExit) as ended:
        main([argument.format(folder) for argument in arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama"]


def test_shifted_model_is_refused(tmp_path):
    config = CONFIGS["qwen2"] | {"model_type": "Dream", "mask_token_id": V - 1}
    with pytest.raises(mj.UserError, match="shifted predictions"):
        mj.open_run(folder_of(tmp_path / "dream", config))


def test_recipe_refuses_a_public_model(tmp_path, capsys):
    folder = folder_of(tmp_path / "llama", CONFIGS["llama"])
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", str(tmp_path / "run"), "--from", str(folder), "--recipe", "sdar"])
    assert ended.value.code == 2 and f"--from={folder}: a public model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
