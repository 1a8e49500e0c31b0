"""A fine-tuned run: the folder that it is exported to, what no folder can say, and its answers to conversations."""

import copy
import hashlib
import json
import re

import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.data.conversations import encode_question, open_chat
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.runs.export import _check_objective, export_run
from mdlm_jax.weights.source import open_source
from tests.data.chats import chat_file, tokenizer_folder, turns
from tests.runs.test_fine_tuning import RUNS
from tests.weights.models import logits_of, random_tensors, write_folder

STEPS, ROWS, LENGTH = 3, 2, 128
TEMPLATE_TEXT = (
    "<|start|>system\nCount.<|end|>\n<|start|>user\n1 + 1<|end|>\n<|start|>assistant\n2<|end|>\n"
    "<|start|>user\nand twice that<|end|>\n<|start|>assistant\n"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three steps on conversations, its model beside it."""
    folder = tmp_path_factory.mktemp("export")
    config, _ = RUNS["ar"]
    write_folder(folder / "model", config, random_tensors(config))
    tokenizer_folder(folder / "model")
    keys = {"data.source": "chat", "data.path": chat_file(folder / "chats.jsonl"), "data.sequence_length": LENGTH}
    keys |= {"steps": STEPS, "train.batch_size": ROWS}
    options = [f"--config.{key}={value}" for key, value in keys.items()]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", str(folder / "run"), "--from", str(folder / "model"), *options])
    assert ended.value.code == 0
    return folder


def test_folder_says_how_it_was_trained(trained, tmp_path):
    export_run(trained / "run", tmp_path / "tuned")
    said = json.loads((tmp_path / "tuned/training.json").read_text())
    result, inputs = (json.loads((trained / f"run/{name}.json").read_text()) for name in ("result", "inputs"))
    assert (said["run"], said["model"], said["step"]) == ("run", "model", STEPS)
    assert said["tokens"] == STEPS * ROWS * LENGTH and said["flops"] == result["flops"]
    assert (said["data"], said["tokenizer"]) == (inputs["corpus"], inputs["tokenizer"])
    assert said["evaluation"] == result and said["config"]["steps"] == STEPS
    assert said["parameterization"]["name"] == "ar"
    assert (said["config"]["start_from"], said["config"]["data"]["path"]) == ("model", "chats.jsonl")
    assert str(trained) not in (tmp_path / "tuned/training.json").read_text()
    head, card = (tmp_path / "tuned/README.md").read_text().split("---\n")[1:]
    assert "library_name: transformers" in head
    digest = hashlib.sha256((tmp_path / "tuned/tokenizer.json").read_bytes()).hexdigest()
    for words in (digest, inputs["corpus"], f"| steps | {STEPS} |", f"{result['loss']:.4f} nats a token"):
        assert words in card
    for counter, count in result["flops"].items():
        assert f"`{counter}` | {count:.4g}" in card
    assert (tmp_path / "tuned/chat_template.jinja").read_bytes() == (trained / "model/chat_template.jinja").read_bytes()
    assert open_source(tmp_path / "tuned").kind == "llama"


def test_adapters_alone(trained, tmp_path):
    """Added to the model by their own folder they give what the whole export has."""
    model = trained / "model"
    keys = {"data.source": "chat", "data.path": trained / "chats.jsonl", "data.sequence_length": LENGTH, "steps": 2}
    keys |= {"train.batch_size": 2, "model.lora_rank": 2, "model.lora_matrices": "query,down"}
    options = [f"--config.{key}={value}" for key, value in keys.items()]
    for arguments in (
        ["train", "--run", str(tmp_path / "run"), "--from", str(model), *options],
        ["convert", str(tmp_path / "run"), "--out", str(tmp_path / "adapters"), "--adapters"],
        ["convert", str(tmp_path / "run"), "--out", str(tmp_path / "whole")],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    said = json.loads((tmp_path / "adapters/adapter_config.json").read_text())
    assert said["target_modules"] == ["down_proj", "q_proj"] and (said["r"], said["lora_alpha"]) == (2, 16.0)
    whole, added, plain = (open_source(path) for path in (tmp_path / "whole", tmp_path / "adapters", model))
    for name, tensor in whole.tensors.items():
        np.testing.assert_allclose(added.tensors[name].read(), tensor.read(), atol=1e-6, rtol=0)
        changed = name.endswith(("q_proj.weight", "down_proj.weight"))
        assert np.array_equal(tensor.read(), plain.tensors[name].read()) != changed
    with pytest.raises(UserError, match="accepted for --adapters: a run with model.lora_rank"):
        export_run(trained / "run", tmp_path / "other", adapters=True)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("key", "value"), [("name", "masked"), ("block_size", 4), ("shift", True), ("block_shift", True)]
)
def test_another_objective_is_refused(trained, key, value):
    run, source = mj.open_run(trained / "run"), open_source(trained / "model")
    config = copy.deepcopy(run.config)
    config.objective[key] = value
    words = f"run: trained with objective.{key}={value}; accepted: {key}=.*, as a folder of llama says"
    with pytest.raises(UserError, match=words):
        _check_objective(trained / "run", run._replace(config=config), source)


def test_another_tokenizer_is_refused(trained, tmp_path):
    file = trained / "model/tokenizer.json"
    whole = file.read_bytes()
    changed = json.loads(whole)
    changed["pre_tokenizer"] = None
    try:
        file.write_text(json.dumps(changed))
        with pytest.raises(UserError, match="run: trained with another tokenizer than .*model"):
            export_run(trained / "run", tmp_path / "tuned")
    finally:
        file.write_bytes(whole)
    assert not (tmp_path / "tuned").exists()


def plain_answer(folder, which, tokens, count, end):
    """Greedy tokens by whole rows, up to the one that ends an answer."""
    weights = mj.load_weights(folder / "model")
    if which == "run":
        run = mj.open_run(folder / "run")
        weights = weights._replace(model=run.model, params=run.params)
    row = np.zeros((1, len(tokens) + count), np.int32)
    row[0, : len(tokens)] = tokens
    for at in range(len(tokens), row.shape[1]):
        row[0, at] = logits_of(weights, row)[0, at - 1].argmax()
        if row[0, at] == end:
            break
    return row[0, len(tokens) : at + 1].tolist()


@pytest.mark.parametrize("which", ["model", "run"])
def test_chats_are_answered(trained, which, tmp_path, capsys):
    """A conversation of several turns, through the template; from Python and from the command line."""
    messages = turns("1 + 1", "2", "and twice that", system="Count.")
    tokenizer = open_tokenizer(trained / "model")
    tokens, end = encode_question(open_chat("here", tokenizer), "here", messages)
    assert tokenizer.decode(tokens) == TEMPLATE_TEXT and tokenizer.decode([end]) == "<|end|>"
    expected = plain_answer(trained, which, tokens, 6, end)
    greedy = "autoregressive:temperature=0"
    (drawn,) = mj.sample(trained / which, prompts=[messages], new_tokens=6, sampler=greedy)
    found = np.asarray(drawn.tokens)[0].tolist()
    assert found[: len(tokens)] == tokens and found[len(tokens) :][: len(expected)] == expected
    (ended,) = mj.sample(trained / which, prompts=[messages], new_tokens=6, sampler=greedy, stop=expected[1])
    assert ended.text[0] == tokenizer.decode(found[: len(tokens) + expected.index(expected[1])])
    file = chat_file(tmp_path / "a.jsonl", [messages])
    arguments = ["--chat", str(file), "--new-tokens", "6", "--temperature", "0"]
    with pytest.raises(SystemExit) as done:
        main(["sample", "--model", str(trained / which), *arguments])
    assert done.value.code == 0 and "and twice that" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["a", "b"], "prompt 1: the last message is the assistant's"),
        (["a <|end|>"], "prompt 1: a message holds '<|end|>', a control token"),
        ([], "prompt 1: no messages"),
        ([None], "prompt 1: a message is"),
    ],
)
def test_a_conversation_without_a_question_is_refused(trained, messages, words):
    messages = turns(*messages)
    with pytest.raises(UserError, match=re.escape(words)):
        mj.sample(trained / "model", prompts=[messages], new_tokens=2)
