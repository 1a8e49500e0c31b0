"""Our numbers on local tasks against those of `lm_eval`'s own `hf` model on the same folder."""

import json

import pytest

from mdlm_jax.harness.evaluate import SCORES, harness
from mdlm_jax.harness.evaluate import TEXTS as TEXTS_FILE
from tests.harness.models import LLAMA_SMALL, TASKS, model_folder, task_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("models") / "llama", LLAMA_SMALL)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return task_folder(tmp_path_factory.mktemp("tasks") / "files")


@pytest.fixture(scope="module")
def theirs(folder, tasks):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=3)
    assert model.max_length == LLAMA_SMALL["max_position_embeddings"]
    manager = TaskManager(include_path=str(tasks))
    return simple_evaluate(model, tasks=list(TASKS), task_manager=manager, batch_size=3)


def scores_of(out):
    return [json.loads(line) for line in (out / SCORES).read_text().splitlines()]


def by_request(out):
    return {(s["task"], s["document"], s["request"]): s for s in scores_of(out)}


def test_likelihoods_and_metrics_equal_those_of_hf(folder, tasks, theirs, tmp_path):
    found = harness(folder, list(TASKS), tmp_path / "out", include_path=tasks, batch_size=4)
    ours, count = by_request(tmp_path / "out"), 0
    for task in ("small_choice", "small_rolling"):
        for sample in theirs["samples"][task]:
            for index, response in enumerate(sample["resps"]):
                score = ours[task, sample["doc_id"], index]
                value = response[0][0] if task == "small_choice" else response[0]
                assert -score["nats"] == pytest.approx(value, abs=1e-3)
                if task == "small_choice":
                    assert score["greedy"] == response[0][1]
                count += 1
    drawn = [json.loads(line) for line in (tmp_path / "out" / TEXTS_FILE).read_text().splitlines()]
    texts = [response[0] for sample in theirs["samples"]["small_text"] for response in sample["resps"]]
    assert [row["text"] for row in drawn] == texts and len(set(texts)) > 2
    for task in TASKS:
        for name, value in theirs["results"][task].items():
            if isinstance(value, float):
                assert found["results"][task][name] == pytest.approx(value, rel=1e-4), name
    assert count == len(ours) == 24 and found["bound"] == "exact"
