"""A public model's folder in place of a run: sampled, evaluated and converted."""

import jax
import numpy as np
import pytest
import tokenizers

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.objectives.base import full
from mdlm_jax.objectives.shifted import shifted
from mdlm_jax.runs.held_out import DataOptions, open_held_out
from mdlm_jax.sampling import sample
from mdlm_jax.sampling.run_sampler import sampler_of, trained_of
from mdlm_jax.weights.load import load_weights
from tests.weights.models import LLAMA, logits_of, random_tensors, write_folder

V = 257  # the letters of a byte-level tokenizer and the end of text
SIZES = {"vocab_size": V, "max_position_embeddings": 64}
GPT2 = {"model_type": "gpt2", "vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
CONFIGS = {
    "llama": LLAMA | SIZES,
    "qwen2": LLAMA | SIZES | {"model_type": "qwen2"},
    "qwen3": LLAMA | SIZES | {"model_type": "qwen3", "head_dim": 12},
    "gpt2": GPT2,
}
LLADA = {
    "model_type": "llada",
    "vocab_size": V,
    "embedding_size": V + 7,  # more rows than the tokenizer has tokens
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 2,
    "mlp_hidden_size": 48,
    "max_sequence_length": 64,
    "mask_token_id": 200,
}
DREAM = CONFIGS["qwen2"] | {"model_type": "Dream", "mask_token_id": 200}
NEVER = [200, *range(V, V + 7)]  # ids that no sample of LLADA may have
SDAR = CONFIGS["qwen3"] | {"model_type": "sdar", "mask_token_id": V - 1, "block_size": 4}


def folder_of(path, config, tensors=None):
    """A checkpoint with a tokenizer of bytes."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(letters)}, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    model.add_special_tokens(["<|endoftext|>"])
    write_folder(path, config, tensors or random_tensors(config))
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
        (["convert", "{}", "--out", "{}"], "already exists"),
        (["convert", "{}/model.safetensors/x", "--out", "{}2"], "no such file or folder"),
        (["convert", "{}", "--out", "{}2", "--dtype", "int8"], "--dtype=int8; accepted: float32"),
        (["convert", "{}", "--out", "{}2", "--adapters"], "--adapters: accepted for a run of train --from MODEL"),
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


@pytest.fixture(scope="module")
def llada(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("llada"), LLADA)


@pytest.fixture(scope="module")
def dream(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("dream"), DREAM)


@pytest.mark.few(2)
@pytest.mark.parametrize("sampler", ["confidence", "ancestral:steps=8", "remasking", "euler", "posterior"])
def test_the_mask_and_unknown_rows_are_never_drawn(llada, sampler):
    run = mj.open_run(llada)
    trained, chosen = trained_of(run), sampler_of(run, sampler)[1]
    prompt = np.full((16, 1), 97)

    def drawn(trained):
        tokens, _ = sample(jax.random.key(1), run.model, run.params, prompt, chosen, 48, trained)
        return np.asarray(tokens)

    assert not np.isin(drawn(trained), [*NEVER, run.vocab_size]).any()
    assert np.isin(drawn(trained._replace(suppress=())), NEVER).any()


def predictions(weights, row, mask_id, shift):
    """Log-probabilities of every position of a row that masks with the public id, by a plain evaluation."""
    logits = logits_of(weights, np.asarray(row)[None], full)[0].astype(np.float64)
    if shift:
        logits = np.concatenate([logits[:1], logits[:-1]])
    logits[:, [mask_id, *range(V, logits.shape[1])]] = -np.inf
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["llada", "dream"])
def test_samples_are_those_of_a_plain_loop(request, name):
    """One token a step, the surest first; the mask is read as the public id and takes no probability."""
    folder = request.getfixturevalue(name)
    (drawn,) = mj.sample(folder, prompts=["ab c"], length=20, sampler="confidence:temperature=0")
    weights, row, nats = load_weights(folder), list(b"ab c") + [200] * 16, np.zeros(20)
    row[:4] = np.asarray(drawn.tokens)[0, :4]
    masked = np.arange(20) >= 4
    while masked.any():
        here = predictions(weights, row, 200, name == "dream")
        position = int(np.where(masked, here.max(-1), -np.inf).argmax())
        row[position], nats[position], masked[position] = here[position].argmax(), here[position].max(), False
    assert np.asarray(drawn.tokens)[0].tolist() == row
    np.testing.assert_allclose(drawn.trace.log_probability[0], nats, atol=1e-4)


def held_out(folder, tmp_path, length):
    """(a text, its rows of `length` tokens)"""
    text = tmp_path / "text.txt"
    text.write_text("".join(map(chr, np.random.default_rng(5).integers(97, 123, 4000))))
    options = DataOptions(str(text), "text", sequence_length=length)
    return str(text), np.asarray(open_held_out(mj.open_run(folder), folder, 5, options).rows.tokens)


def nats_of(weights, rows, masked, predicted_at):
    """-log p of the masked tokens of each row, the logit of the mask in the softmax, summed over the row."""
    logits = logits_of(weights, np.where(masked, 200, rows), full).astype(np.float64)[:, predicted_at]
    each = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, rows[:, -logits.shape[1] :, None], -1)[..., 0]
    return (each * masked[-logits.shape[1] :]).sum(-1)


def test_the_likelihood_keeps_the_logit_of_the_mask(llada, tmp_path):
    """As LLaDA's own code has it. A row of one token has one view, so that the bound has no noise."""
    text, rows = held_out(llada, tmp_path, 1)
    found = mj.evaluate(llada, data=text, source="text", sequences=5, length=1)
    nats = nats_of(load_weights(llada), rows, np.array([True]), slice(0, 1))
    assert found["nats_per_token"] == pytest.approx(nats.mean(), abs=1e-5) and found["bound"] == "upper"


def test_shifted_predictions_are_evaluated(dream, tmp_path):
    """The first token of a row is read only, and token i + 1 is predicted at position i; all sets of masks by hand."""
    weights = load_weights(dream)
    text, rows = held_out(dream, tmp_path, 2)
    found = mj.evaluate(dream, data=text, source="text", sequences=5, length=2)
    nats = nats_of(weights, rows, np.array([False, True]), slice(0, 1))
    assert found["tokens"] == 5 and found["nats_per_token"] == pytest.approx(nats.mean(), abs=1e-5)
    text, rows = held_out(dream, tmp_path, 3)
    found = mj.evaluate(dream, data=text, source="text", sequences=5, length=3, draws=64)
    both, *one = (
        nats_of(weights, rows, np.array(masked), slice(0, 2)).mean()
        for masked in ([False, True, True], [False, True, False], [False, False, True])
    )
    assert found["tokens"] == 10 and found["monte_carlo_error"] < 0.1
    assert found["nats_per_token"] == pytest.approx((both + sum(one)) / 4, abs=5 * found["monte_carlo_error"])


def test_shifted_predictions_need_whole_rows_of_tokens():
    with pytest.raises(mj.UserError, match="sees the whole row as tokens"):
        shifted(mj.objectives.ar(11))


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["llada", "dream"])
def test_arguments_of_the_command_line_are_those_of_the_function(request, capsys, name):
    folder = request.getfixturevalue(name)
    same = {"sampler": "confidence", "mask_token": "<mask>", "seed": 3}
    (filled,) = mj.sample(folder, prompts=["ab<mask:3>c"], **same)
    assert filled.tokens.shape == (1, 6) and filled.text[0].startswith("ab") and filled.text[0].endswith("c")
    (longer,) = mj.sample(folder, prompts=["ab"], new_tokens=9, **same)
    assert longer.tokens.shape == (1, 11)
    stop = int(longer.tokens[0, 5])
    (ended,) = mj.sample(folder, prompts=["ab"], new_tokens=9, stop=stop, **same)
    assert ended.text[0] == longer.text[0][:5]
    with pytest.raises(SystemExit) as done:
        arguments = ["--sampler", "confidence", "--new-tokens", "9", "--seed", "3", "--stop", str(stop)]
        main(["sample", "--model", str(folder), "--prompt", "ab", *arguments])
    assert done.value.code == 0 and ended.text[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"length": 9, "new_tokens": 3}, "one of the two"),
        ({"new_tokens": 0}, "accepted is 1 or more"),
        ({"count": 0}, "0 samples: accepted is 1 or more"),
        ({"stop": -1}, "stop -1: accepted is 0 to"),
        ({"stop": ""}, "stop is an empty text"),
        ({"stop": "a", "sampler": "ancestral"}, "ancestral has none"),
        ({"prompts": ["a", "a" * 9], "length": 9}, "9 tokens leaves none of the 9"),
    ],
)
def test_a_bad_request_draws_nothing(llada, arguments, words):
    with pytest.raises(mj.UserError, match=words):
        mj.sample(llada, **{"prompts": ["a"], "sampler": "confidence"} | arguments)


def test_recipe_refuses_a_diffusion_model(tmp_path, llada, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", str(tmp_path / "run"), "--from", str(llada), "--recipe", "sdar"])
    assert ended.value.code == 2 and "accepted: an autoregressive network" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
