"""Our numbers on local tasks against those of `lm_eval`'s own `hf` model on the same folder."""

import functools
import json

import pytest

from mdlm_jax.harness.evaluate import harness
from mdlm_jax.harness.lines import SCORES
from mdlm_jax.harness.lines import TEXTS as TEXTS_FILE
from mdlm_jax.harness.prompts import Prompts
from tests.harness.models import LLAMA_SMALL, TASKS, TEMPLATE, WITH_SYSTEM, model_folder, task_folder

pytestmark = pytest.mark.slow
CHATS = [  # a template, and how documents become prompts
    (WITH_SYSTEM, Prompts(chat=True, system="Be the cat.", shots=2, shots_as_turns=True)),
    (TEMPLATE, Prompts(chat=True, system="Be the cat.", shots=1)),
    (None, Prompts(system="Be the cat.", shots=1)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("models") / "llama", LLAMA_SMALL)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Task files; the harness's index of all tasks, which takes 10 s, is made once."""
    folder = task_folder(tmp_path_factory.mktemp("tasks") / "files")
    begun = json.loads((folder / "small_text.yaml").read_text()) | {"task": "begun", "gen_prefix": "the man "}
    (folder / "begun.yaml").write_text(json.dumps(begun))
    import lm_eval.tasks

    found = lm_eval.tasks.TaskManager
    lm_eval.tasks.TaskManager = functools.cache(found)
    yield folder
    lm_eval.tasks.TaskManager = found


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


@pytest.mark.parametrize(("template", "prompts"), CHATS)
def test_prompts_equal_those_of_hf(template, prompts, tasks, tmp_path):
    """The likelihoods and texts after the same conversations; one task begins the answer itself."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder = model_folder(tmp_path / "llama", LLAMA_SMALL | {"max_position_embeddings": 400}, template)
    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=3)
    options = {
        "num_fewshot": prompts.shots,
        "system_instruction": prompts.system,
        "apply_chat_template": prompts.chat,
        "fewshot_as_multiturn": prompts.shots_as_turns,
    }
    names, manager = ["small_choice", "begun"], TaskManager(include_path=str(tasks))
    theirs = simple_evaluate(model, tasks=names, task_manager=manager, **options)
    found = harness(folder, names, tmp_path / "out", include_path=tasks, batch_size=4, prompts=prompts)
    ours = by_request(tmp_path / "out")
    for sample in theirs["samples"]["small_choice"]:
        for index, response in enumerate(sample["resps"]):
            assert -ours["small_choice", sample["doc_id"], index]["nats"] == pytest.approx(response[0][0], abs=1e-3)
    drawn = [json.loads(line)["text"] for line in (tmp_path / "out" / TEXTS_FILE).read_text().splitlines()]
    assert drawn == [response[0] for sample in theirs["samples"]["begun"] for response in sample["resps"]]
    assert found["shots"] == dict.fromkeys(names, prompts.shots) and found["chat"] == prompts.chat


@pytest.mark.parametrize("template", [TEMPLATE, WITH_SYSTEM])
def test_chats_equal_those_of_hf(template, tmp_path):
    from lm_eval.models.huggingface import HFLM

    from mdlm_jax.harness.adapter import HarnessModel

    folder = model_folder(tmp_path / "llama", LLAMA_SMALL, template)
    hf, ours = HFLM(pretrained=str(folder), device="cpu"), HarnessModel(folder, tmp_path / "out", chat=True)
    question = [{"role": "system", "content": "Be."}, {"role": "user", "content": "a <|endoftext|> b "}]
    for messages, answers in ((question, True), ([*question, {"role": "assistant", "content": " so "}], False)):
        text = ours.apply_chat_template(messages, answers)
        assert text == hf.apply_chat_template(messages, answers)
        assert ours.scorer.reader.encode(text) == hf.tok_encode(text)
