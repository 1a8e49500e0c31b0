"""A real model through the harness, against `lm_eval`'s own `hf` model on the same weights and requests."""

import json
import math

import pytest

from mdlm_jax.harness.evaluate import harness
from mdlm_jax.harness.lines import SCORES, TEXTS
from mdlm_jax.weights.save import convert
from tests import public_data
from tests.weights.smollm2 import gguf_file, golden

pytestmark = pytest.mark.slow

QUESTIONS = [
    ("The capital of France is", ["Paris", "a potato", "seven", "blue"], 0),
    ("Two plus two equals", ["five", "four", "nine", "one hundred"], 1),
    ("The sun rises in the", ["west", "north", "east", "kitchen"], 2),
    ("A young dog is called a", ["kitten", "calf", "foal", "puppy"], 3),
    ("Ice is frozen", ["water", "sand", "music", "iron"], 0),
    ("The opposite of up is", ["left", "down", "over", "slow"], 1),
]
PROMPTS = ["The capital of France is", "Question: What colour is the sky?\nAnswer:"]
TASKS = {
    "open_mc": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes")],
    },
    "open_roll": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    },
    "open_gen": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "Paris",
        "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


def rolled() -> str:
    """The first of the two documents of the published rolling task; the other is not under a free licence here."""
    return (public_data.FOLDER / "wikitext-2" / "valid_head.txt").read_text(encoding="utf-8")[2000:3000]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """(what results.json says, the folder of the results)."""
    root = tmp_path_factory.mktemp("smollm2")
    convert(gguf_file(), root / "model")
    tasks = root / "tasks"
    tasks.mkdir()
    documents = {
        "open_mc": [{"question": q, "choices": c, "label": label} for q, c, label in QUESTIONS],
        "open_roll": [{"text": rolled()}],
        "open_gen": [{"question": prompt} for prompt in PROMPTS],
    }
    for name, task in TASKS.items():
        data = tasks / f"{name}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents[name]))
        files = {"data_files": {"test": str(data)}}
        common = {"task": name, "dataset_path": "json", "test_split": "test", "dataset_kwargs": files}
        (tasks / f"{name}.yaml").write_text(json.dumps(common | task))
    out = root / "out"
    return harness(root / "model", list(TASKS), out, include_path=tasks, length=128), out


def rows_of(out, name, task):
    rows = [json.loads(line) for line in (out / name).read_text().splitlines()]
    return {(row["document"], row["request"]): row for row in rows if row["task"] == task}


def test_multiple_choice(outcome):
    found, out = outcome
    expected = golden()["lm_eval"]["open_mc"]
    scores = rows_of(out, SCORES, "open_mc")
    for document, responses in enumerate(expected["responses"]):
        for request, (value, greedy) in enumerate(responses):
            score = scores[document, request]
            assert -score["nats"] == pytest.approx(value, abs=1e-3) and score["greedy"] == greedy
    for metric in ("acc", "acc_norm", "acc_bytes"):
        value = expected["metrics"][f"{metric},none"]
        assert found["results"]["open_mc"][f"{metric},none"] == pytest.approx(value, abs=1e-6)


def test_rolling(outcome):
    """Their sum in float32 is 0.002 nats away from the sum in float64, by hand."""
    found, out = outcome
    (total, tokens), _ = golden()["rolling_by_hand"]["loglikelihood_and_tokens"]
    score = rows_of(out, SCORES, "open_roll")[0, 0]
    assert -score["nats"] == pytest.approx(total, abs=1e-3) and score["tokens"] == tokens
    assert -score["nats"] == pytest.approx(golden()["lm_eval"]["open_roll"]["responses"][0][0], abs=0.01)
    bits = -total / math.log(2) / len(rolled().encode())
    assert found["results"]["open_roll"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-5)


def test_texts(outcome):
    """The leading blank stays, so exact_match is 0, as theirs is."""
    found, out = outcome
    expected = golden()["lm_eval"]["open_gen"]
    texts = rows_of(out, TEXTS, "open_gen")
    assert [texts[document, 0]["text"] for document in range(2)] == [text for (text,) in expected["responses"]]
    assert found["results"]["open_gen"]["exact_match,none"] == expected["metrics"]["exact_match,none"]
