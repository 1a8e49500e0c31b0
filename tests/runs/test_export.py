"""What a folder that a run was exported to says of the run, and what no folder can say."""

import copy
import hashlib
import json

import pytest

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.errors import UserError
from mdlm_jax.runs.export import _check_objective, export_run
from mdlm_jax.weights.source import open_source
from tests.data.chats import chat_file, tokenizer_folder
from tests.runs.test_fine_tuning import RUNS
from tests.weights.models import random_tensors, write_folder

STEPS, ROWS, LENGTH = 3, 2, 64


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
    head, card = (tmp_path / "tuned/README.md").read_text().split("---\n")[1:]
    assert "library_name: transformers" in head
    digest = hashlib.sha256((tmp_path / "tuned/tokenizer.json").read_bytes()).hexdigest()
    for words in (digest, inputs["corpus"], f"| steps | {STEPS} |", f"{result['loss']:.4f} nats a token"):
        assert words in card
    for counter, count in result["flops"].items():
        assert f"`{counter}` | {count:.4g}" in card
    assert (tmp_path / "tuned/chat_template.jinja").read_bytes() == (trained / "model/chat_template.jinja").read_bytes()
    assert open_source(tmp_path / "tuned").kind == "llama"


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
