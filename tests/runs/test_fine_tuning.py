"""Fine-tuning a public model on conversations through the command line."""

import jax
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.config import load_config
from mdlm_jax.errors import UserError
from mdlm_jax.runs.imported import open_imported
from tests.data.chats import chat_file, tokenizer_folder
from tests.weights.models import LLAMA, logits_of, random_tensors, write_folder

SIZES = {"vocab_size": 260, "max_position_embeddings": 128}
LLADA = {
    "model_type": "llada",
    "vocab_size": 260,
    "embedding_size": 260,
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 2,
    "mlp_hidden_size": 48,
    "max_sequence_length": 128,
    "mask_token_id": 259,
}
RUNS = {
    "ar": (LLAMA | SIZES, {}),
    "masked": (LLADA, {"data.padding": "scored", "objective.drop_prompt": 0.5}),
    "block": (LLADA, {"data.padding": "unread", "objective.block_size": 8}),
}


@pytest.mark.parametrize("name", ["ar", *(pytest.param(name, marks=pytest.mark.slow) for name in ("masked", "block"))])
def test_model_learns_the_answers(tmp_path, name, capsys):
    """Of six conversations that it sees again and again."""
    config, keys = RUNS[name]
    write_folder(tmp_path / "model", config, random_tensors(config))
    tokenizer_folder(tmp_path / "model")
    file = chat_file(tmp_path / "chats.jsonl")
    keys = {
        "data.source": "chat",
        "data.path": str(file),
        "data.validation_path": str(file),
        "data.sequence_length": 128,
        "steps": 30,
        "optim.lr": 0.01,
        "train.batch_size": 4,
    } | keys
    options = [f"--config.{key}={value}" for key, value in keys.items()]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", str(tmp_path / "run"), "--from", str(tmp_path / "model"), *options])
    assert ended.value.code == 0, capsys.readouterr().err
    run, public = mj.open_run(tmp_path / "run"), open_imported(tmp_path / "model")
    assert jax.tree.map(np.shape, run.params) == jax.tree.map(np.shape, public.params)
    options = {"data": str(file), "source": "chat"}  # the last conversation
    before = mj.evaluate(tmp_path / "model", **options, length=128)["nats_per_token"]
    assert mj.evaluate(tmp_path / "run", **options)["nats_per_token"] < 0.8 * before


def test_packed_blocks_are_refused(tmp_path):
    keys = {"data.source": "chat", "data.path": "a.jsonl", "objective.name": "masked", "objective.block_size": 8}
    with pytest.raises(UserError, match="config.data.padding is 'packed'; accepted: unread or scored"):
        mj.plan(load_config("base", [f"--config.{key}={value}" for key, value in keys.items()]))


@pytest.mark.slow
@pytest.mark.parametrize("lora", [0, 2], ids=["all", "adapters"])
def test_export_is_the_trained_model(tmp_path, lora):
    """`convert` writes a folder whose network computes what the run does, also in transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    config, _ = RUNS["ar"]
    write_folder(tmp_path / "model", config, random_tensors(config))
    tokenizer_folder(tmp_path / "model")
    file = chat_file(tmp_path / "chats.jsonl")
    keys = {"data.source": "chat", "data.path": file, "data.sequence_length": 64, "steps": 5, "optim.lr": 0.01}
    keys |= {"train.batch_size": 2} | ({"model.lora_rank": lora, "model.lora_matrices": "query,down"} if lora else {})
    options = [f"--config.{key}={value}" for key, value in keys.items()]
    for arguments in (
        ["train", "--run", str(tmp_path / "run"), "--from", str(tmp_path / "model"), *options],
        ["convert", str(tmp_path / "run"), "--out", str(tmp_path / "tuned")],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    run, weights = mj.open_run(tmp_path / "run"), mj.load_weights(tmp_path / "tuned")
    tokens = np.arange(20)[None] % 256
    ours = logits_of(weights, tokens)
    trained = logits_of(weights._replace(model=run.model, params=run.params), tokens)
    np.testing.assert_allclose(ours, trained, atol=1e-6)
    assert abs(ours - logits_of(mj.load_weights(tmp_path / "model"), tokens)).max() > 1e-3
    theirs, told = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned", output_loading_info=True)
    assert not any(told.values())
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert (tmp_path / "tuned" / "chat_template.jinja").exists()
